//! Statements with the values that are bound to them.

use sqlx::postgres::PgArguments;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments as _, PgConnection, PgPool, SqlSafeStr as _, SqlStr, SqliteConnection, SqlitePool};

use super::{Acquired, Connection, Pool, Row, Transaction};

/// A statement for both databases. A text that is put together holds words of the program only; what comes from elsewhere
/// is bound.
pub(in crate::store) fn sql(text: impl Into<Text>) -> Statement {
    Statement { text: text.into(), values: Vec::new() }
}

/// The text of a statement.
pub(in crate::store) enum Text {
    /// Both databases understand it.
    Same(SqlStr),
    /// It differs.
    Pair {
        /// For SQLite.
        sqlite: SqlStr,
        /// For PostgreSQL.
        postgres: SqlStr,
    },
}

impl Text {
    pub(in crate::store) fn pair(sqlite: impl Into<Self>, postgres: impl Into<Self>) -> Self {
        Self::Pair { sqlite: sqlite.into().sqlite(), postgres: postgres.into().postgres() }
    }

    fn sqlite(self) -> SqlStr {
        match self {
            Self::Same(text) | Self::Pair { sqlite: text, .. } => text,
        }
    }

    fn postgres(self) -> SqlStr {
        match self {
            Self::Same(text) | Self::Pair { postgres: text, .. } => text,
        }
    }
}

impl From<&'static str> for Text {
    fn from(text: &'static str) -> Self {
        Self::Same(text.into_sql_str())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::Same(sqlx::AssertSqlSafe(text).into_sql_str())
    }
}

/// A statement that the two databases do not understand alike: both texts, with the same places for the same values.
macro_rules! per_database {
    (sqlite: $sqlite:expr, postgres: $postgres:expr $(,)?) => {
        $crate::store::database::Text::pair($sqlite, $postgres)
    };
}
pub(in crate::store) use per_database;

/// A statement and its values.
pub(in crate::store) struct Statement {
    text: Text,
    values: Vec<Value>,
}

/// A value that a statement is given. What is not there has a type too: PostgreSQL asks for it.
#[derive(Clone, Debug)]
pub(in crate::store) enum Value {
    Integer(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

impl Statement {
    /// Binds the next place: `$1`, then `$2` and so on.
    pub(in crate::store) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Runs it. Returns how many rows it changed.
    pub(in crate::store) async fn execute<'c>(self, on: impl Into<On<'c>>) -> Result<u64, sqlx::Error> {
        Ok(match on.into() {
            On::SqlitePool(pool) => self.for_sqlite()?.execute(pool).await?.rows_affected(),
            On::Sqlite(connection) => self.for_sqlite()?.execute(connection).await?.rows_affected(),
            On::PostgresPool(pool) => self.for_postgres()?.execute(pool).await?.rows_affected(),
            On::Postgres(connection) => self.for_postgres()?.execute(connection).await?.rows_affected(),
        })
    }

    /// Runs it where others write at the same time, to hold what must not change meanwhile. SQLite has one writer.
    pub(in crate::store) async fn execute_on_postgres<'c>(
        self,
        on: impl Into<On<'c>>,
    ) -> Result<(), sqlx::Error> {
        match on.into() {
            On::Sqlite(_) | On::SqlitePool(_) => {}
            on => _ = self.execute(on).await?,
        }
        Ok(())
    }

    /// Its rows.
    pub(in crate::store) async fn fetch_all<'c>(
        self,
        on: impl Into<On<'c>>,
    ) -> Result<Vec<Row>, sqlx::Error> {
        fn rows<R>(rows: Vec<R>, row: impl FnMut(R) -> Row) -> Vec<Row> {
            rows.into_iter().map(row).collect()
        }
        Ok(match on.into() {
            On::SqlitePool(pool) => rows(self.for_sqlite()?.fetch_all(pool).await?, Row::Sqlite),
            On::Sqlite(connection) => rows(self.for_sqlite()?.fetch_all(connection).await?, Row::Sqlite),
            On::PostgresPool(pool) => rows(self.for_postgres()?.fetch_all(pool).await?, Row::Postgres),
            On::Postgres(connection) => {
                rows(self.for_postgres()?.fetch_all(connection).await?, Row::Postgres)
            }
        })
    }

    /// Its first row, if it has one.
    pub(in crate::store) async fn fetch_optional<'c>(
        self,
        on: impl Into<On<'c>>,
    ) -> Result<Option<Row>, sqlx::Error> {
        Ok(match on.into() {
            On::SqlitePool(pool) => self.for_sqlite()?.fetch_optional(pool).await?.map(Row::Sqlite),
            On::Sqlite(connection) => self.for_sqlite()?.fetch_optional(connection).await?.map(Row::Sqlite),
            On::PostgresPool(pool) => self.for_postgres()?.fetch_optional(pool).await?.map(Row::Postgres),
            On::Postgres(connection) => {
                self.for_postgres()?.fetch_optional(connection).await?.map(Row::Postgres)
            }
        })
    }

    /// Its first row, which must be there.
    pub(in crate::store) async fn fetch_one<'c>(self, on: impl Into<On<'c>>) -> Result<Row, sqlx::Error> {
        self.fetch_optional(on).await?.ok_or(sqlx::Error::RowNotFound)
    }

    fn for_sqlite(self) -> Result<Query<sqlx::Sqlite>, sqlx::Error> {
        let mut arguments = SqliteArguments::default();
        for value in self.values {
            match value {
                Value::Integer(value) => arguments.add(value),
                Value::Text(value) => arguments.add(value),
                Value::Bytes(value) => arguments.add(value),
            }
            .map_err(sqlx::Error::Encode)?;
        }
        Ok(sqlx::query_with(self.text.sqlite(), arguments))
    }

    fn for_postgres(self) -> Result<Query<sqlx::Postgres>, sqlx::Error> {
        let mut arguments = PgArguments::default();
        for value in self.values {
            match value {
                Value::Integer(value) => arguments.add(value),
                Value::Text(value) => arguments.add(value),
                Value::Bytes(value) => arguments.add(value),
            }
            .map_err(sqlx::Error::Encode)?;
        }
        Ok(sqlx::query_with(self.text.postgres(), arguments))
    }
}

type Query<D> = sqlx::query::Query<'static, D, <D as sqlx::Database>::Arguments>;

/// Where a statement runs.
pub(in crate::store) enum On<'c> {
    SqlitePool(&'c SqlitePool),
    Sqlite(&'c mut SqliteConnection),
    PostgresPool(&'c PgPool),
    Postgres(&'c mut PgConnection),
}

impl<'c> From<&'c Pool> for On<'c> {
    fn from(pool: &'c Pool) -> Self {
        match pool {
            Pool::Sqlite(pool) => Self::SqlitePool(pool),
            Pool::Postgres(pool) => Self::PostgresPool(pool),
        }
    }
}

impl<'c> From<Connection<'c>> for On<'c> {
    fn from(connection: Connection<'c>) -> Self {
        match connection {
            Connection::Sqlite(connection) => Self::Sqlite(connection),
            Connection::Postgres(connection) => Self::Postgres(connection),
        }
    }
}

impl<'c> From<&'c mut Connection<'_>> for On<'c> {
    fn from(connection: &'c mut Connection<'_>) -> Self {
        match connection {
            Connection::Sqlite(connection) => Self::Sqlite(connection),
            Connection::Postgres(connection) => Self::Postgres(connection),
        }
    }
}

impl<'c> From<&'c mut Acquired> for On<'c> {
    fn from(acquired: &'c mut Acquired) -> Self {
        acquired.connection().into()
    }
}

impl<'c> From<&'c mut Transaction<'_>> for On<'c> {
    fn from(transaction: &'c mut Transaction<'_>) -> Self {
        transaction.connection().into()
    }
}

/// Values that go into a place, there or not.
macro_rules! values {
    ($($type:ty => $variant:ident, $owned:expr;)*) => {$(
        impl From<$type> for Value {
            fn from(value: $type) -> Self {
                Self::$variant(Some($owned(value)))
            }
        }

        impl From<Option<$type>> for Value {
            fn from(value: Option<$type>) -> Self {
                Self::$variant(value.map($owned))
            }
        }
    )*};
}

values! {
    i64 => Integer, i64::from;
    String => Text, String::from;
    &str => Text, str::to_owned;
    &String => Text, String::clone;
    Vec<u8> => Bytes, Vec::from;
    &[u8] => Bytes, <[u8]>::to_vec;
    &Vec<u8> => Bytes, Vec::clone;
}
