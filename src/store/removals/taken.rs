//! Removals as they are taken in the transaction of their entries.

use jiff::Timestamp;

use super::{NewRemoval, RemovalEnd, RemovalStep};
use crate::audit::removal::RemovalKind;
use crate::domain::exchange::ExchangeId;
use crate::store::attachments::remove_named;
use crate::store::database::{Connection, Text, per_database, sql};
use crate::store::effect::exactly_one;
use crate::store::{Rejection, StoreError, postgres, signed};

pub(in crate::store) async fn begin(
    connection: &mut Connection<'_>,
    new: &NewRemoval,
) -> Result<Result<(), Rejection>, StoreError> {
    let begun = sql(
        "INSERT INTO removals (removal_id, caller, kind, state, dry_run, before_us, pseudonyms, event, looked_through, \
         entries, exchanges, obstacles, created_us, updated_us) \
         VALUES ($1, $2, $3, 'COUNTING', $4, $5, $6, $7, 0, 0, 0, '[]', $8, $8) ON CONFLICT DO NOTHING",
    )
    .bind(new.removal_id.as_bytes().as_slice())
    .bind(new.caller.as_str())
    .bind(new.kind.as_str())
    .bind(i64::from(new.dry_run))
    .bind(new.before.map(Timestamp::as_microsecond))
    .bind(serde_json::to_string(&new.pseudonyms).unwrap_or_default())
    .bind(&new.event)
    .bind(new.at.as_microsecond())
    .execute(connection)
    .await?;
    Ok(exactly_one(begun))
}

/// Takes a step that the entry `index` tells of, or none of it where a message has come into one of its threads since
/// that was looked at: the message is not lost, and the thread does not lose its salts without it.
pub(in crate::store) async fn step(
    connection: &mut Connection<'_>,
    step: &RemovalStep,
    index: u64,
) -> Result<Result<(), Rejection>, StoreError> {
    for thread in &step.threads {
        let waits =
            sql("SELECT 1 FROM deliveries WHERE exchange_id = $1 AND state IN ('PENDING', 'LEASED') LIMIT 1");
        let waits = waits.bind(thread.as_bytes().as_slice()).fetch_optional(&mut *connection).await?;
        if waits.is_some() {
            return Ok(Err(Rejection::Conflict));
        }
    }
    if let Some(detaching) = &step.detaches {
        let Connection::Postgres(server) = connection else { return Ok(Err(Rejection::Conflict)) };
        if !postgres::detach(server, detaching, index, step.at).await? {
            return Ok(Err(Rejection::Conflict));
        }
        postgres::tell(server, step, index).await?;
    } else {
        remove_entries(connection, step, index).await?;
    }
    for thread in &step.threads {
        remove_named(connection, thread).await?;
        let is_marked = step.kind != RemovalKind::Retention && mark_erased(connection, thread, step).await?;
        if is_marked {
            // Overwritten in their place: a row that is deleted may make its neighbours move, and leave a copy of them.
            let overwritten = per_database! {
                sqlite: "UPDATE messages SET message = zeroblob(length(message)) WHERE exchange_id = $1",
                postgres: "UPDATE messages SET message = decode(repeat('00', length(message)), 'hex') \
                           WHERE exchange_id = $1",
            };
            run(connection, overwritten, thread).await?;
        } else {
            for table in ["messages", "deliveries", "running_clocks", "exchange_events", "exchanges"] {
                run(connection, format!("DELETE FROM {table} WHERE exchange_id = $1"), thread).await?;
            }
            run(connection, "DELETE FROM verifications WHERE verification_id = $1", thread).await?;
        }
    }
    sql(
        "UPDATE removals SET entries = entries + $1, exchanges = exchanges + $2, updated_us = $3 WHERE removal_id = $4",
    )
    .bind(signed(step.entries.count()))
    .bind(signed(step.threads.len() as u64))
    .bind(step.at.as_microsecond())
    .bind(step.removal_id.as_bytes().as_slice())
    .execute(connection)
    .await?;
    Ok(Ok(()))
}

/// Takes entries away in their rows, and what is kept for them.
async fn remove_entries(
    connection: &mut Connection<'_>,
    step: &RemovalStep,
    index: u64,
) -> Result<(), StoreError> {
    macro_rules! of_entries {
        ($set:literal) => {
            concat!("UPDATE audit_entries SET ", $set, " WHERE idx BETWEEN $1 AND $2")
        };
    }
    for (first, last) in step.entries.ranges() {
        let (first, last) = (signed(*first), signed(*last));
        let of_entries: Text = match step.kind {
            // The operator's name, first in the salt, is another person's.
            RemovalKind::Subject => {
                of_entries!("salt = CASE length(salt) WHEN 64 THEN substr(salt, 1, 16) END").into()
            }
            RemovalKind::Period => of_entries!("salt = NULL").into(),
            RemovalKind::Retention => per_database! {
                sqlite: of_entries!("entry = x'', salt = NULL"),
                postgres: of_entries!("entry = '', salt = NULL"),
            },
        };
        // The request id goes with its outcome: without it the id could only be answered by "still running".
        for text in [
            of_entries,
            Text::from(
                "DELETE FROM claims WHERE (caller, request_id) IN \
                 (SELECT caller, request_id FROM outcomes WHERE request_index BETWEEN $1 AND $2)",
            ),
            Text::from("DELETE FROM outcomes WHERE request_index BETWEEN $1 AND $2"),
        ] {
            sql(text).bind(first).bind(last).execute(&mut *connection).await?;
        }
        sql("INSERT INTO removed_entries (first_idx, last_idx, removed_us, kind, removed_by, told_idx) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING")
        .bind(first)
        .bind(last)
        .bind(step.at.as_microsecond())
        .bind(step.kind.as_str())
        .bind(step.by.as_str())
        .bind(signed(index))
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Marks an exchange as erased. Returns whether the thread is an exchange's.
async fn mark_erased(
    connection: &mut Connection<'_>,
    thread: &ExchangeId,
    step: &RemovalStep,
) -> Result<bool, StoreError> {
    let marked = sql("UPDATE exchanges SET erased_us = $1, erased_by = $2 WHERE exchange_id = $3")
        .bind(step.at.as_microsecond())
        .bind(step.by.as_str())
        .bind(thread.as_bytes().as_slice())
        .execute(connection)
        .await?;
    Ok(marked > 0)
}

pub(in crate::store) async fn end(
    connection: &mut Connection<'_>,
    end: &RemovalEnd,
) -> Result<(), StoreError> {
    let (entries, exchanges) = end.counts.unzip();
    sql(
        "UPDATE removals SET state = $1, entries = COALESCE($2, entries), exchanges = COALESCE($3, exchanges), \
         obstacles = $4, updated_us = $5 WHERE removal_id = $6",
    )
    .bind(end.state.as_str())
    .bind(entries.map(signed))
    .bind(exchanges.map(signed))
    .bind(serde_json::to_string(&end.obstacles).unwrap_or_default())
    .bind(end.at.as_microsecond())
    .bind(end.removal_id.as_bytes().as_slice())
    .execute(connection)
    .await?;
    Ok(())
}

async fn run(
    connection: &mut Connection<'_>,
    text: impl Into<Text>,
    thread: &ExchangeId,
) -> Result<(), StoreError> {
    sql(text).bind(thread.as_bytes().as_slice()).execute(connection).await?;
    Ok(())
}
