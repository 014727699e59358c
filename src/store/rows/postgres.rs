//! The rows of a batch for PostgreSQL: arrays that one statement spreads out, so that a batch is one way there and back.

use jiff::Timestamp;
use sqlx::postgres::PgArguments;
use sqlx::{Arguments as _, PgConnection, Row as _};

use crate::audit::log::Batch;
use crate::store::effect::Effect;
use crate::store::node::Node;
use crate::store::{StoreError, signed};

/// Writes the rows where the head still is the one that the batch was built on, and the node still the writer's.
const WRITE: &str = "\
    WITH claimed AS (INSERT INTO claims (caller, request_id, digest, request_index) \
         SELECT * FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::bigint[])), \
    answered AS (INSERT INTO outcomes (caller, request_id, request_index, response_index, created_us, response) \
         SELECT * FROM unnest($5::text[], $6::bytea[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bytea[])), \
    entered AS (INSERT INTO audit_entries (idx, entry, salt) \
         SELECT $11 + place - 1, entry, salt \
         FROM unnest($12::bytea[], $13::bytea[]) WITH ORDINALITY leaves (entry, salt, place)), \
    hashed AS (INSERT INTO audit_tiles (level, idx, hashes) \
         SELECT * FROM unnest($14::bigint[], $15::bigint[], $16::bytea[]) \
         ON CONFLICT (level, idx) DO UPDATE SET hashes = excluded.hashes), \
    headed AS (INSERT INTO audit_head AS head (id, size, root, checkpoint, recorded_us) VALUES (1, $17, $18, $19, $20) \
         ON CONFLICT (id) DO UPDATE SET size = excluded.size, root = excluded.root, checkpoint = excluded.checkpoint, \
         recorded_us = excluded.recorded_us WHERE head.size = $11 RETURNING 1), \
    held AS (UPDATE audit_nodes SET open_from = $21, written_to = $22 WHERE node = $23 AND epoch = $24 RETURNING 1) \
    SELECT (SELECT count(*) FROM headed), (SELECT count(*) FROM held)";

/// Writes the rows of a batch in the transaction that is open.
pub(in crate::store) async fn write(
    connection: &mut PgConnection,
    node: &Node,
    batch: &Batch<Effect>,
) -> Result<(), StoreError> {
    let arguments = arguments(node, batch).map_err(sqlx::Error::Encode)?;
    let written = sqlx::query_with(WRITE, arguments).fetch_one(connection).await?;
    let (headed, held): (i64, i64) = (written.try_get(0)?, written.try_get(1)?);
    if held != 1 {
        return Err(StoreError::LostNode { node: node.name.clone() });
    }
    if headed != 1 {
        return Err(StoreError::Inconsistent { table: "audit_head", column: "size" });
    }
    Ok(())
}

fn arguments(node: &Node, batch: &Batch<Effect>) -> Result<PgArguments, sqlx::error::BoxDynError> {
    let (mut claims, mut outcomes) = (Claims::default(), Outcomes::default());
    for (index, leaf) in (batch.first_index..).zip(&batch.leaves) {
        for effect in &leaf.effects {
            claims.add(effect, index);
            outcomes.add(effect, index);
        }
    }
    let entries: Vec<&[u8]> = batch.leaves.iter().map(|leaf| leaf.entry.as_slice()).collect();
    let salts: Vec<&[u8]> = batch.leaves.iter().map(|leaf| leaf.salt.0.as_slice()).collect();
    let levels: Vec<i64> = batch.tiles.iter().map(|(id, _)| i64::from(id.level)).collect();
    let places: Vec<i64> = batch.tiles.iter().map(|(id, _)| signed(id.index)).collect();
    let hashes =
        batch.tiles.iter().map(|(_, hashes)| hashes.iter().flat_map(|hash| *hash.as_bytes()).collect());
    let hashes: Vec<Vec<u8>> = hashes.collect();
    let head = &batch.head;

    let mut arguments = PgArguments::default();
    arguments.add(claims.callers)?;
    arguments.add(claims.request_ids)?;
    arguments.add(claims.digests)?;
    arguments.add(claims.request_indices)?;
    arguments.add(outcomes.callers)?;
    arguments.add(outcomes.request_ids)?;
    arguments.add(outcomes.request_indices)?;
    arguments.add(outcomes.response_indices)?;
    arguments.add(outcomes.times)?;
    arguments.add(outcomes.responses)?;
    arguments.add(signed(batch.first_index))?;
    arguments.add(entries)?;
    arguments.add(salts)?;
    arguments.add(levels)?;
    arguments.add(places)?;
    arguments.add(hashes)?;
    arguments.add(signed(head.size))?;
    arguments.add(head.root.as_bytes().as_slice())?;
    arguments.add(head.checkpoint.as_str())?;
    arguments.add(head.recorded.map_or(0, Timestamp::as_microsecond))?;
    arguments.add(signed(head.open_from))?;
    arguments.add(signed(head.written_to))?;
    arguments.add(node.name.as_str())?;
    arguments.add(node.epoch)?;
    Ok(arguments)
}

#[derive(Default)]
struct Claims<'b> {
    callers: Vec<&'b str>,
    request_ids: Vec<&'b [u8]>,
    digests: Vec<&'b [u8]>,
    request_indices: Vec<i64>,
}

impl<'b> Claims<'b> {
    fn add(&mut self, effect: &'b Effect, index: u64) {
        if let Effect::Claim { caller, request_id, digest } = effect {
            self.callers.push(caller.as_str());
            self.request_ids.push(request_id.as_bytes());
            self.digests.push(digest);
            self.request_indices.push(signed(index));
        }
    }
}

#[derive(Default)]
struct Outcomes<'b> {
    callers: Vec<&'b str>,
    request_ids: Vec<&'b [u8]>,
    request_indices: Vec<i64>,
    response_indices: Vec<i64>,
    times: Vec<i64>,
    responses: Vec<&'b [u8]>,
}

impl<'b> Outcomes<'b> {
    fn add(&mut self, effect: &'b Effect, index: u64) {
        if let Effect::Outcome { caller, request_id, request_index, response, at } = effect {
            self.callers.push(caller.as_str());
            self.request_ids.push(request_id.as_bytes());
            self.request_indices.push(signed(*request_index));
            self.response_indices.push(signed(index));
            self.times.push(at.as_microsecond());
            self.responses.push(response);
        }
    }
}
