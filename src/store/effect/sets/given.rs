//! Rows that a statement is given: as one JSON array of objects, which it spreads out into a table again.

use serde::Serialize;

use crate::store::StoreError;

/// A column of a given table, out of an object of its array.
macro_rules! column {
    (sqlite $name:ident bytes) => {
        concat!(", unhex(value ->> '", stringify!($name), "') AS ", stringify!($name))
    };
    (sqlite $name:ident $type:ident) => {
        concat!(", value ->> '", stringify!($name), "' AS ", stringify!($name))
    };
    (postgres $name:ident bytes) => {
        concat!(", decode(", stringify!($name), ", 'hex') AS ", stringify!($name))
    };
    (postgres $name:ident $type:ident) => {
        concat!(", ", stringify!($name))
    };
    (type bytes) => {
        " text"
    };
    (type text) => {
        " text"
    };
    (type number) => {
        " bigint"
    };
}

/// A given table: the array of objects at a place, spread out. On PostgreSQL the condition, which always holds, has the planner
/// expect a single row: it plans a statement once, while its tables may be small still, and has to find rows by their keys then
/// already.
macro_rules! given {
    (sqlite $at:literal $($name:ident $type:ident)*) => {
        concat!("(SELECT key AS place", $(column!(sqlite $name $type),)* " FROM jsonb_each(", $at, ")) given")
    };
    (postgres $at:literal $($name:ident $type:ident)*) => {
        concat!(
            "(SELECT place", $(column!(postgres $name $type),)*
            " FROM ROWS FROM (json_to_recordset(", $at, "::json) AS (nothing text",
            $(", ", stringify!($name), column!(type $type),)*
            ")) WITH ORDINALITY AS objects (nothing", $(", ", stringify!($name),)* ", place) WHERE place BETWEEN 1 AND 1000000) given"
        )
    };
}

/// A statement that takes a given table at its first place. Its columns are named unlike those of the tables it is used on.
macro_rules! on_given {
    ($before:literal, [$($name:ident $type:ident),*], $after:literal) => {
        $crate::store::database::per_database! {
            sqlite: concat!($before, " ", given!(sqlite "$1" $($name $type)*), " ", $after),
            postgres: concat!($before, " ", given!(postgres "$1" $($name $type)*), " ", $after),
        }
    };
}

pub(super) use {column, given, on_given};

/// Bytes, as a given table holds them.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// The array.
pub(super) fn json<T: Serialize>(rows: &[T]) -> Result<String, StoreError> {
    serde_json::to_string(rows).map_err(|error| StoreError::Database(sqlx::Error::Encode(error.into())))
}
