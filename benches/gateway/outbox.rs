//! Fills the outbox directly: what would take a gateway an hour to accept is there in half a minute.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use legal_aid_gateway::config::Database;
use legal_aid_gateway::domain::exchange::ExchangeId;
use legal_aid_gateway::gateway::Secrets;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::grpc::proto::exchange_message::Body;
use legal_aid_gateway::store::{Sealer, Store};
use prost::Message as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};
use uuid::Uuid;

use crate::gateway::keys;
use crate::inbox::micros;
use crate::message::{Question, REGION, Submission};
use crate::parties::Party;

/// Rows of one statement.
const RUN: usize = 10_000;

/// Puts so many fee waivers in the outbox of each court, each an exchange of its own with a sealed message, oldest
/// first. The gateway whose folder it is does not run. Its database is `postgres`, or else the file in its folder.
pub(crate) async fn fill(folder: &Path, postgres: Option<&str>, courts: &[Party], each: usize) -> Result<()> {
    let file = folder.join("gateway.db");
    let secrets = Secrets::load(&keys(folder))?;
    let database = postgres.map_or_else(|| Database::File(file.clone()), Database::parse);
    let store = Store::open(database, Sealer::of(&secrets.body)).await?;
    let mut connection = match postgres {
        Some(url) => Filled::Postgres(PgConnection::connect(url).await?),
        None => Filled::Sqlite(
            SqliteConnection::connect_with(
                &SqliteConnectOptions::new().filename(&file).synchronous(SqliteSynchronous::Off).pragma(
                    "cache_size",
                    // Random places of many indexes: 256 MiB.
                    "-262144",
                ),
            )
            .await?,
        ),
    };
    let question = Question::compose()?;
    for court in courts {
        let asked = Submission::to(court.code(), &question)?.ask();
        let envelope = asked.envelope.context("a submission has an envelope")?;
        let content = asked.content.context("a submission has content")?;
        for from in (0..each).step_by(RUN) {
            let rows = RUN.min(each - from);
            let run = Run::compose(&store, &envelope, &content, rows)?;
            run.insert(&mut connection, *court, rows, micros() - (each - from) as i64).await?;
        }
    }
    connection.settle(each * courts.len()).await?;
    store.close().await;
    Ok(())
}

/// What is filled.
enum Filled {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Filled {
    /// Checks how much waits, and leaves the database as one that has been worked with for a while.
    async fn settle(self, rows: usize) -> Result<()> {
        const WAITING: &str = "SELECT COUNT(*) FROM deliveries WHERE state = 'PENDING'";
        let filled: i64 = match self {
            Self::Sqlite(mut connection) => {
                let filled = sqlx::query_scalar(WAITING).fetch_one(&mut connection).await?;
                sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await?;
                connection.close().await?;
                filled
            }
            Self::Postgres(mut connection) => {
                let filled = sqlx::query_scalar(WAITING).fetch_one(&mut connection).await?;
                sqlx::raw_sql("VACUUM ANALYZE").execute(&mut connection).await?;
                sqlx::raw_sql("CHECKPOINT").execute(&mut connection).await?;
                connection.close().await?;
                filled
            }
        };
        ensure!(filled == i64::try_from(rows)?, "{filled} deliveries wait");
        Ok(())
    }
}

/// Rows of some exchanges: ids and messages end to end.
struct Run {
    exchanges: Vec<u8>,
    deliveries: Vec<u8>,
    messages: Vec<u8>,
    /// Bytes of one message: all have the same.
    length: usize,
}

impl Run {
    fn compose(
        store: &Store,
        envelope: &proto::Envelope,
        content: &proto::Content,
        rows: usize,
    ) -> Result<Self> {
        let mut run = Self { exchanges: Vec::new(), deliveries: Vec::new(), messages: Vec::new(), length: 0 };
        for _ in 0..rows {
            let exchange = Uuid::now_v7();
            let message = proto::ExchangeMessage {
                exchange_id: exchange.to_string(),
                sequence: 1,
                envelope: Some(envelope.clone()),
                body: Some(Body::Content(content.clone())),
                accept_time: None,
            };
            let id = ExchangeId::new(exchange);
            let sealed = store.seal_message(&id, 1, &message.encode_to_vec());
            run.exchanges.extend_from_slice(exchange.as_bytes());
            run.deliveries.extend_from_slice(Uuid::now_v7().as_bytes());
            run.length = sealed.len();
            run.messages.extend_from_slice(&sealed);
        }
        ensure!(run.messages.len() == rows * run.length, "messages differ in length");
        Ok(run)
    }

    async fn insert(self, connection: &mut Filled, court: Party, rows: usize, from_us: i64) -> Result<()> {
        const STATEMENTS: [&str; 4] = [
            "INSERT INTO exchanges (exchange_id, kind, state, sender, recipient, matter_id, region, messages, created_us, \
             updated_us) SELECT substr($2, CAST(key * 16 + 1 AS INTEGER), 16), 'FEE_WAIVER', 'SUBMITTED', $6, $7, \
             'TZ/2026-LA-004217', $8, 1, $5 + key, $5 + key FROM n",
            "INSERT INTO messages (exchange_id, sequence, message) SELECT substr($2, CAST(key * 16 + 1 AS INTEGER), 16), 1, \
             substr($4, CAST(key * $9 + 1 AS INTEGER), CAST($9 AS INTEGER)) FROM n",
            "INSERT INTO deliveries (delivery_id, exchange_id, sequence, sender, recipient, state, attempts, due_us, created_us) \
             SELECT substr($3, CAST(key * 16 + 1 AS INTEGER), 16), substr($2, CAST(key * 16 + 1 AS INTEGER), 16), 1, $6, $7, \
             'PENDING', 0, $5 + key, $5 + key FROM n",
            "INSERT INTO exchange_events (exchange_id, sender, recipient, change, state, message, changed_us) \
             SELECT substr($2, CAST(key * 16 + 1 AS INTEGER), 16), $6, $7, 'OPENED', 'SUBMITTED', 1, $5 + key FROM n",
        ];
        const ON_SQLITE: &str =
            "WITH RECURSIVE n(key) AS (SELECT 0 UNION ALL SELECT key + 1 FROM n WHERE key < $1 - 1) ";
        const ON_POSTGRES: &str = "WITH n(key) AS (SELECT generate_series(0, $1 - 1)) ";
        macro_rules! insert {
            ($connection:expr, $numbers:expr) => {{
                let mut transaction = $connection.begin().await?;
                for statement in STATEMENTS {
                    sqlx::query(AssertSqlSafe(format!("{}{statement}", $numbers)))
                        .bind(i64::try_from(rows)?)
                        .bind(self.exchanges.as_slice())
                        .bind(self.deliveries.as_slice())
                        .bind(self.messages.as_slice())
                        .bind(from_us)
                        .bind(Party::Centre.code())
                        .bind(court.code())
                        .bind(REGION)
                        .bind(i64::try_from(self.length)?)
                        .execute(&mut *transaction)
                        .await?;
                }
                transaction.commit().await?;
            }};
        }
        match connection {
            Filled::Sqlite(connection) => insert!(connection, ON_SQLITE),
            Filled::Postgres(connection) => insert!(connection, ON_POSTGRES),
        }
        Ok(())
    }
}
