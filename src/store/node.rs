//! The gateways that write one log on PostgreSQL, each under the name of its node.
//!
//! A gateway holds a lock on its node's name for as long as it lives, on a connection of its own: the server frees it when the
//! gateway ends, however that ends. Beside the lock stands an epoch, which rises whenever somebody takes the node's place and
//! which every batch compares: who has lost its place, and does not know it yet, writes nothing.

use std::ops::Range;
use std::time::Duration;

use sqlx::{Connection as _, PgConnection, Row as _};
use tokio::time::{Instant, sleep, timeout};

use super::database::{Acquired, Row, per_database, sql};
use super::{Store, StoreError, postgres, unsigned};
use crate::config::{Database, Postgres};

/// How long to wait at start for a lock that a gateway which has just ended, or one that does its work, still holds.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often the lock is looked after.
const LOOK: Duration = Duration::from_secs(1);

/// How long the server may take to answer a look.
const SILENCE: Duration = Duration::from_secs(2);

/// A node's place among those that write.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Its name; its entries bear it.
    pub(super) name: String,
    /// How often the place was taken. Who took it later writes; who held it before does not any more.
    pub(super) epoch: i64,
}

/// A node that has ended and left REQUESTs open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphanage {
    /// Its name.
    pub node: String,
    /// Its epoch; who takes its place raises it.
    pub epoch: i64,
    /// No REQUEST of it outside this range waits for its end.
    pub open: Range<u64>,
}

/// A gateway's place among those that live on one database: of what all of them see, it takes first what falls to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Its place, from 0.
    pub place: u32,
    /// How many there are; at least 1.
    pub of: u32,
}

impl Share {
    /// Of the only one.
    pub const WHOLE: Self = Self { place: 0, of: 1 };
}

/// The lock on a node's name. Dropped, it is free.
pub struct NodeLock {
    server: Postgres,
    node: String,
    session: Option<PgConnection>,
}

impl NodeLock {
    /// Takes the lock on a node's name.
    ///
    /// # Errors
    /// When another gateway has it, or the server does not answer.
    pub(super) async fn take(server: &Postgres, node: &str) -> Result<Self, StoreError> {
        let mut session = postgres::connect_to_stay(server).await?;
        let begun = Instant::now();
        while !try_lock(&mut session, node).await? {
            if begun.elapsed() > PATIENCE {
                return Err(StoreError::NodeInUse { node: node.to_owned(), server: server.to_string() });
            }
            sleep(PATIENCE / 20).await;
        }
        Ok(Self { server: server.clone(), node: node.to_owned(), session: Some(session) })
    }

    /// Looks after the lock, and takes it again when its connection broke. Returns when another gateway has taken the place.
    pub(super) async fn keep(&mut self, store: &Store) -> StoreError {
        loop {
            sleep(LOOK).await;
            if self.is_held().await {
                continue;
            }
            self.session = None;
            match store.holds_place().await {
                Ok(true) => {}
                Ok(false) => return StoreError::LostNode { node: self.node.clone() },
                // The server is away: whoever else would take the place cannot either.
                Err(_) => continue,
            }
            if let Ok(mut session) = postgres::connect_to_stay(&self.server).await
                && matches!(try_lock(&mut session, &self.node).await, Ok(true))
            {
                tracing::info!(
                    node = self.node,
                    "the node's lock was lost with its connection, and is taken again"
                );
                self.session = Some(session);
            }
        }
    }

    async fn is_held(&mut self) -> bool {
        let Some(session) = &mut self.session else { return false };
        matches!(timeout(SILENCE, session.ping()).await, Ok(Ok(())))
    }

    /// Takes the lock on a node's name where it is free; `None` while its gateway lives.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn try_take(database: &Database, node: &str) -> Result<Option<Self>, StoreError> {
        let Database::Postgres(server) = database else { return Ok(None) };
        let mut session = postgres::connect_to_stay(server).await?;
        let is_free = try_lock(&mut session, node).await?;
        let lock = Self { server: server.clone(), node: node.to_owned(), session: Some(session) };
        Ok(is_free.then_some(lock))
    }
}

/// Whether the gateway of node `n` lives: it holds the lock on its name.
macro_rules! lives {
    ($of_nodes:literal) => {
        concat!(
            "EXISTS (SELECT 1 FROM pg_locks l WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted \
             AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
             AND l.classid::bigint = ",
            $of_nodes,
            " AND l.objid::bigint = hashtext(n.node)::bigint & 4294967295)"
        )
    };
}

/// Something that one gateway at a time does. Dropped, another may do it.
pub struct Duty(#[allow(dead_code, reason = "held, not used")] Option<Acquired>);

async fn try_lock(session: &mut PgConnection, node: &str) -> Result<bool, StoreError> {
    let locked = sqlx::query("SELECT pg_try_advisory_lock($1, hashtext($2))").bind(postgres::NODE).bind(node);
    Ok(locked.fetch_one(session).await?.try_get(0)?)
}

impl Store {
    /// Takes the place of `node` among those that write the log. On SQLite there is one place, and the lock on the file keeps
    /// it. To be called by who holds the node's lock.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn join(self, node: &str) -> Result<Self, StoreError> {
        if self.is_alone() {
            return Ok(self);
        }
        let taken = sql(
            "INSERT INTO audit_nodes AS place (node, epoch, open_from, written_to) VALUES ($1, 1, 0, 0) \
             ON CONFLICT (node) DO UPDATE SET epoch = place.epoch + 1 RETURNING epoch",
        );
        let epoch = taken.bind(node).fetch_one(&self.writer).await?.try_get(0)?;
        let node = Node { name: node.to_owned(), epoch };
        Ok(Self { node: Some(node.into()), ..self })
    }

    /// Takes on something that only one gateway at a time is to do; `None` while another does it.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn take_duty(&self, name: &str) -> Result<Option<Duty>, StoreError> {
        if self.is_alone() {
            return Ok(Some(Duty(None)));
        }
        let mut connection = self.writer.acquire().await?;
        let taken = sql("SELECT pg_try_advisory_lock($1::int, hashtext($2))");
        let taken = taken.bind(i64::from(postgres::DUTY)).bind(name).fetch_one(&mut connection).await?;
        if !taken.try_get::<bool>(0)? {
            return Ok(None);
        }
        // The lock goes with the connection.
        connection.close_on_drop();
        Ok(Some(Duty(Some(connection))))
    }

    /// Whether this is the only gateway on its database by the nature of the database.
    pub fn is_alone(&self) -> bool {
        matches!(self.writer, super::Pool::Sqlite(_))
    }

    /// Whether nobody has taken this node's place.
    async fn holds_place(&self) -> Result<bool, StoreError> {
        let node = self.node()?;
        let place = sql("SELECT 1 FROM audit_nodes WHERE node = $1 AND epoch = $2");
        let place = place.bind(node.name.as_str()).bind(node.epoch).fetch_optional(&self.readers).await?;
        Ok(place.is_some())
    }

    /// The other nodes that have left REQUESTs open and whose locks are free.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn orphanages(&self) -> Result<Vec<Orphanage>, StoreError> {
        let Some(own) = &self.node else { return Ok(Vec::new()) };
        let rows = sql(concat!(
            "SELECT n.node, n.epoch, n.open_from, n.written_to FROM audit_nodes n \
             WHERE n.node <> $1 AND n.open_from < n.written_to AND NOT ",
            lives!("$2")
        ));
        let rows =
            rows.bind(own.name.as_str()).bind(i64::from(postgres::NODE)).fetch_all(&self.readers).await?;
        rows.iter()
            .map(|row| {
                let open = range(row, 2)?;
                Ok(Orphanage { node: row.try_get(0)?, epoch: row.try_get(1)?, open })
            })
            .collect()
    }

    /// This gateway's place among those whose locks are held.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn share(&self) -> Result<Share, StoreError> {
        let Some(own) = &self.node else { return Ok(Share::WHOLE) };
        let row = sql(concat!(
            "SELECT COUNT(*) FILTER (WHERE n.node < $1), COUNT(*) FROM audit_nodes n WHERE n.node <> $1 AND ",
            lives!("$2")
        ));
        let row =
            row.bind(own.name.as_str()).bind(i64::from(postgres::NODE)).fetch_one(&self.readers).await?;
        let count = |place| {
            let inconsistent = |_| StoreError::Inconsistent { table: "audit_nodes", column: "node" };
            u32::try_from(row.try_get::<i64>(place)?).map_err(inconsistent)
        };
        Ok(Share { place: count(0)?, of: count(1)? + 1 })
    }

    /// Takes the place of a node that has ended, so that it cannot write any more should it live after all. `None` when
    /// somebody else was faster.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn take_over(&self, left: &Orphanage) -> Result<Option<Orphanage>, StoreError> {
        let taken = sql("UPDATE audit_nodes SET epoch = epoch + 1 WHERE node = $1 AND epoch = $2 \
             RETURNING epoch, open_from, written_to");
        let taken = taken.bind(left.node.as_str()).bind(left.epoch).fetch_optional(&self.writer).await?;
        let Some(row) = taken else { return Ok(None) };
        Ok(Some(Orphanage { node: left.node.clone(), epoch: row.try_get(0)?, open: range(&row, 1)? }))
    }

    /// Notes that a node whose place was taken has nothing open.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn nothing_open(&self, taken: &Orphanage) -> Result<(), StoreError> {
        let noted = sql("UPDATE audit_nodes SET open_from = written_to WHERE node = $1 AND epoch = $2");
        self.write(noted.bind(taken.node.as_str()).bind(taken.epoch)).await.map(|_| ())
    }

    /// The lowest index at which a REQUEST of any gateway may still wait for its end.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn open_from(&self) -> Result<u64, StoreError> {
        let row = sql(per_database! {
            sqlite: "SELECT open_from FROM audit_head WHERE id = 1",
            postgres: "SELECT COALESCE((SELECT min(open_from) FROM audit_nodes WHERE open_from < written_to), size) \
                       FROM audit_head WHERE id = 1",
        });
        let row = row.fetch_optional(&self.readers).await?;
        row.map_or(Ok(0), |row| unsigned(row.try_get(0)?, "audit_head", "open_from"))
    }
}

fn range(row: &Row, place: usize) -> Result<Range<u64>, StoreError> {
    let index = |place: usize, column| unsigned(row.try_get(place)?, "audit_nodes", column);
    Ok(index(place, "open_from")?..index(place + 1, "written_to")?)
}
