//! Databases for tests: each case of the store runs on SQLite and on PostgreSQL.

#[path = "../../tests/support/postgres.rs"]
mod postgres;

use super::{NodeLock, Sealer, Store, StoreError};
use crate::config::Database;

/// An empty database, and a folder for what lies beside it.
pub(super) struct Place {
    pub(super) folder: tempfile::TempDir,
    database: Database,
}

impl Place {
    pub(super) fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("gateway.db").into();
        Self { folder, database }
    }

    /// `None` where there is no PostgreSQL; that is told.
    pub(super) fn postgres() -> Option<Self> {
        let database = Database::parse(&postgres::database()?);
        Some(Self { folder: tempfile::tempdir().unwrap(), database })
    }

    /// Another empty database of the same kind.
    pub(super) fn another(&self) -> Self {
        match &self.database {
            Database::File(_) => Self::sqlite(),
            Database::Postgres(_) => Self::postgres().unwrap(),
        }
    }

    pub(super) fn database(&self) -> &Database {
        &self.database
    }

    /// The store of the node `node-1`.
    pub(super) async fn open(&self) -> Store {
        self.open_as("node-1").await
    }

    pub(super) async fn open_as(&self, node: &str) -> Store {
        self.try_open().await.unwrap().join(node).await.unwrap()
    }

    /// The lock that a gateway holds on its node's name; of a file there is none.
    pub(super) async fn lock(&self, node: &str) -> Option<NodeLock> {
        NodeLock::try_take(&self.database, node).await.unwrap()
    }

    pub(super) async fn try_open(&self) -> Result<Store, StoreError> {
        Store::open(&self.database, Sealer::new(&[1; 32])).await
    }

    /// The database as who reads a copy of it opens it.
    pub(super) async fn open_to_read(&self) -> Store {
        Store::open_audit_log(&self.database).await.unwrap()
    }
}

/// Cases that run on each database: functions of a [`Place`].
macro_rules! on_each_database {
    ($($(#[$meta:meta])* async fn $name:ident($place:ident: Place) $body:block)*) => {$(
        mod $name {
            #[allow(unused_imports, reason = "some cases need nothing")]
            use super::*;

            $(#[$meta])*
            async fn case($place: $crate::store::databases_in_tests::Place) $body

            #[tokio::test(flavor = "multi_thread")]
            async fn sqlite() {
                case($crate::store::databases_in_tests::Place::sqlite()).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn postgres() {
                if let Some(place) = $crate::store::databases_in_tests::Place::postgres() {
                    case(place).await;
                }
            }
        }
    )*};
}
pub(super) use on_each_database;
