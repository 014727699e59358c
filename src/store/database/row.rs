//! Rows, and the types that their columns are read as.

use sqlx::error::{BoxDynError, UnexpectedNullError};
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, TypeInfo as _, ValueRef as _};

/// A row of an answer.
pub(in crate::store) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    /// The column at `place`. One that holds nothing is an error, unless it is read as an `Option`: left to itself, sqlx
    /// reads it from SQLite as 0.
    pub(in crate::store) fn try_get<'r, T: Column<'r>>(&'r self, place: usize) -> Result<T, sqlx::Error> {
        T::read(self, place)?.ok_or_else(|| undecodable(place, Box::new(UnexpectedNullError)))
    }
}

/// A type that a column is read as.
pub(in crate::store) trait Column<'r>: Sized {
    /// The column's value; `None` where it holds nothing.
    fn read(row: &'r Row, place: usize) -> Result<Option<Self>, sqlx::Error>;
}

impl<'r, T: Column<'r>> Column<'r> for Option<T> {
    fn read(row: &'r Row, place: usize) -> Result<Option<Self>, sqlx::Error> {
        T::read(row, place).map(Some)
    }
}

/// PostgreSQL counts and measures in integers of several widths.
impl Column<'_> for i64 {
    fn read(row: &Row, place: usize) -> Result<Option<Self>, sqlx::Error> {
        match row {
            Row::Sqlite(row) => row.try_get(place),
            Row::Postgres(row) => match row.try_get_raw(place)?.type_info().name() {
                "INT2" | "INT4" | "INT8" => row.try_get_unchecked(place),
                name => Err(undecodable(place, format!("{name} is read as an integer").into())),
            },
        }
    }
}

/// The answer to a question, or a column that holds 0 or 1.
impl Column<'_> for bool {
    fn read(row: &Row, place: usize) -> Result<Option<Self>, sqlx::Error> {
        match row {
            Row::Postgres(answer) if answer.try_get_raw(place)?.type_info().name() == "BOOL" => {
                answer.try_get(place)
            }
            _ => Ok(<i64 as Column>::read(row, place)?.map(|value| value != 0)),
        }
    }
}

macro_rules! as_sqlx_reads_it {
    ($($type:ty),*) => {$(
        impl<'r> Column<'r> for $type {
            fn read(row: &'r Row, place: usize) -> Result<Option<Self>, sqlx::Error> {
                match row {
                    Row::Sqlite(row) => row.try_get(place),
                    Row::Postgres(row) => row.try_get(place),
                }
            }
        }
    )*};
}

as_sqlx_reads_it!(&'r str, String, &'r [u8], Vec<u8>);

fn undecodable(place: usize, source: BoxDynError) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: place.to_string(), source }
}
