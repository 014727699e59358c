//! Sealing anew what earlier keys sealed, so that they can be given up.

use uuid::Uuid;

use super::attachments::{chunk_place, details_place};
use super::database::{Row, sql};
use super::exchanges::message_place;
use super::finding_marks::comment_place;
use super::outcomes::outcome_place;
use super::verifications::question_place;
use super::{Store, StoreError, unsigned};
use crate::domain::exchange::{ExchangeId, VerificationId};

/// Rows read at once: those of chunks of attachments are large.
const ROWS: i64 = 32;

/// What a pass through everything that is sealed found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Bodies looked at.
    pub seen: u64,
    /// Sealed anew with the newest key.
    pub resealed: u64,
    /// That no key opens: they are left as they are.
    pub unopened: u64,
}

/// A column that holds what is sealed.
struct Sealed {
    table: &'static str,
    column: &'static str,
    key: Key,
    /// What a seal in the row of this key is bound to.
    place: fn(&RowKey) -> Option<String>,
}

/// By what a table's rows are told apart.
#[derive(Clone, Copy)]
enum Key {
    Id(&'static str),
    Number(&'static str),
    Both(&'static str, &'static str),
}

/// The key of a row; what the table does not have stays as it was.
struct RowKey {
    id: Vec<u8>,
    number: i64,
}

const SEALED: [Sealed; 6] = [
    Sealed {
        table: "messages",
        column: "message",
        key: Key::Both("exchange_id", "sequence"),
        place: |key| Some(message_place(&ExchangeId::from_slice(&key.id)?, u32::try_from(key.number).ok()?)),
    },
    Sealed {
        table: "outcomes",
        column: "response",
        key: Key::Number("request_index"),
        place: |key| Some(outcome_place(u64::try_from(key.number).ok()?)),
    },
    Sealed {
        table: "verifications",
        column: "question",
        key: Key::Id("verification_id"),
        place: |key| Some(question_place(&VerificationId::from_slice(&key.id)?)),
    },
    Sealed {
        table: "finding_marks",
        column: "comment",
        key: Key::Number("request_index"),
        place: |key| Some(comment_place(u64::try_from(key.number).ok()?)),
    },
    Sealed {
        table: "attachments",
        column: "details",
        key: Key::Id("attachment_id"),
        place: |key| Some(details_place(&Uuid::from_slice(&key.id).ok()?)),
    },
    Sealed {
        table: "attachment_chunks",
        column: "chunk",
        key: Key::Both("attachment_id", "idx"),
        place: |key| Some(chunk_place(&Uuid::from_slice(&key.id).ok()?, u64::try_from(key.number).ok()?)),
    },
];

impl Store {
    /// Goes once through all that is sealed, and seals anew with the newest key what an earlier one sealed. A gateway may
    /// work on the database meanwhile; what it seals with an earlier key behind this pass is left for another one.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn reseal(&self) -> Result<Resealed, StoreError> {
        let mut found = Resealed::default();
        for sealed in &SEALED {
            let mut after = RowKey { id: Vec::new(), number: i64::MIN };
            while self.reseal_some(sealed, &mut after, &mut found).await? {}
        }
        Ok(found)
    }

    /// Does so with the rows that come next. Returns whether there may be more.
    async fn reseal_some(
        &self,
        sealed: &Sealed,
        after: &mut RowKey,
        found: &mut Resealed,
    ) -> Result<bool, StoreError> {
        let Sealed { table, column, key, .. } = sealed;
        let (columns, count) = (key.columns(), key.count());
        let places = key.places(1);
        let limit = count + 1;
        let text = format!(
            "SELECT {column}, {columns} FROM {table} WHERE ({columns}) > ({places}) AND {column} IS NOT NULL \
             ORDER BY {columns} LIMIT ${limit}"
        );
        let statement = key.bind(sql(text), after).bind(ROWS);
        let rows = statement.fetch_all(&self.readers).await?;
        for row in &rows {
            key.read(row, after, table)?;
            found.seen += 1;
            let bytes: &[u8] = row.try_get(0)?;
            let place = (sealed.place)(after);
            let place = place.ok_or(StoreError::Inconsistent { table, column: "key" })?;
            match self.sealer.reseal(&place, bytes) {
                Ok(None) => {}
                Ok(Some(anew)) => found.resealed += self.put(sealed, after, bytes, anew).await?,
                Err(_) => found.unopened += 1,
            }
        }
        Ok(i64::try_from(rows.len()).is_ok_and(|read| read == ROWS))
    }

    /// Puts a seal in another's place, unless the row was changed or erased meanwhile.
    async fn put(&self, sealed: &Sealed, at: &RowKey, was: &[u8], anew: Vec<u8>) -> Result<u64, StoreError> {
        let Sealed { table, column, key, .. } = sealed;
        let (columns, places) = (key.columns(), key.places(3));
        let text =
            format!("UPDATE {table} SET {column} = $1 WHERE {column} = $2 AND ({columns}) = ({places})");
        self.write(key.bind(sql(text).bind(anew).bind(was), at)).await
    }
}

impl Key {
    fn columns(self) -> String {
        match self {
            Self::Id(column) | Self::Number(column) => column.to_owned(),
            Self::Both(id, number) => format!("{id}, {number}"),
        }
    }

    fn count(self) -> usize {
        if matches!(self, Self::Both(..)) { 2 } else { 1 }
    }

    /// The places of its values, from the one of this number on.
    fn places(self, first: usize) -> String {
        match self {
            Self::Both(..) => format!("${first}, ${}", first + 1),
            Self::Id(_) | Self::Number(_) => format!("${first}"),
        }
    }

    fn bind(self, statement: super::Statement, key: &RowKey) -> super::Statement {
        let id = key.id.as_slice();
        match self {
            Self::Id(_) => statement.bind(id),
            Self::Number(_) => statement.bind(key.number),
            Self::Both(..) => statement.bind(id).bind(key.number),
        }
    }

    /// Reads it behind the first column.
    fn read(self, row: &Row, into: &mut RowKey, table: &'static str) -> Result<(), StoreError> {
        match self {
            Self::Id(_) => into.id = row.try_get(1)?,
            Self::Number(column) => {
                into.number = row.try_get(1)?;
                unsigned(into.number, table, column)?;
            }
            Self::Both(_, column) => {
                into.id = row.try_get(1)?;
                into.number = row.try_get(2)?;
                unsigned(into.number, table, column)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::audit::key_ring::KeyRing;
    use crate::store::Sealer;
    use crate::store::databases_in_tests::on_each_database;

    /// A row of each table that holds something sealed, in the words of both databases; `$1` is the id, `$2` the seal.
    const ROWS_OF_EACH: [(&str, &str, i64); 6] = [
        ("messages", "INSERT INTO messages (exchange_id, message, sequence) VALUES ($1, $2, 3)", 3),
        (
            "outcomes",
            "INSERT INTO outcomes (request_id, response, request_index, response_index, caller, created_us) \
             VALUES ($1, $2, 5, 6, 'a', 0)",
            5,
        ),
        (
            "verifications",
            "INSERT INTO verifications (verification_id, question, kind, state, caller, registry, matter_id, attempts, \
             due_us, created_us, updated_us) VALUES ($1, $2, 'a', 'a', 'a', 'a', 'a', 0, 0, 0, 0)",
            0,
        ),
        (
            "finding_marks",
            "INSERT INTO finding_marks (finding_id, comment, request_index, mark, marked_by, unit, operator, marked_us) \
             VALUES ($1, $2, 7, 'a', 'a', 'a', 'a', 0)",
            7,
        ),
        (
            "attachments",
            "INSERT INTO attachments (attachment_id, details, owner, digest, size, received, touched_us) \
             VALUES ($1, $2, 'a', $1, 0, 0, 0)",
            0,
        ),
        (
            "attachment_chunks",
            "INSERT INTO attachment_chunks (attachment_id, chunk, idx) VALUES ($1, $2, 9)",
            9,
        ),
    ];

    async fn seals(store: &Store) -> Vec<(String, Vec<u8>)> {
        let mut found = Vec::new();
        for (sealed, (table, _, number)) in SEALED.iter().zip(&ROWS_OF_EACH) {
            assert_eq!(sealed.table, *table);
            let text = format!("SELECT {} FROM {table}", sealed.column);
            let rows = sql(text).fetch_all(&store.readers).await.unwrap();
            let key = RowKey { id: ID.to_vec(), number: *number };
            let place = (sealed.place)(&key).unwrap();
            found.extend(rows.iter().map(|row| (place.clone(), row.try_get::<Vec<u8>>(0).unwrap())));
        }
        found
    }

    const ID: [u8; 16] = [6; 16];

    on_each_database! {
        async fn what_an_earlier_key_sealed_is_sealed_anew_in_every_table_and_the_rest_is_left(place: Place) {
            let store = place.open().await;
            for (sealed, (_, insert, number)) in SEALED.iter().zip(ROWS_OF_EACH) {
                let key = RowKey { id: ID.to_vec(), number };
                let seal = store.sealer.seal(&(sealed.place)(&key).unwrap(), sealed.table.as_bytes());
                store.write(sql(insert).bind(ID.as_slice()).bind(seal)).await.unwrap();
            }
            let before = seals(&store).await;
            assert_eq!(store.reseal().await.unwrap(), Resealed { seen: 6, resealed: 0, unopened: 0 });
            assert_eq!(seals(&store).await, before, "the newest key has sealed it");

            store.sealer.replace_keys(&KeyRing::new(Zeroizing::new([1; 32])).rotate(Zeroizing::new([2; 32])));
            assert_eq!(store.reseal().await.unwrap(), Resealed { seen: 6, resealed: 6, unopened: 0 });
            let newest = Sealer::new(&[2; 32]);
            let after = seals(&store).await;
            let opened: Vec<_> = after.iter().map(|(place, seal)| newest.open(place, seal).unwrap()).collect();
            let tables = ROWS_OF_EACH.map(|(table, ..)| table.as_bytes().to_vec());
            assert_eq!(opened, tables);
            assert_eq!(store.reseal().await.unwrap(), Resealed { seen: 6, resealed: 0, unopened: 0 });

            // What no key opens is counted, and left.
            store.sealer.replace_keys(&KeyRing::new(Zeroizing::new([9; 32])));
            assert_eq!(store.reseal().await.unwrap(), Resealed { seen: 6, resealed: 0, unopened: 6 });
            assert_eq!(seals(&store).await, after);
        }

        async fn sealing_anew_goes_on_behind_the_rows_that_are_read_at_once(place: Place) {
            let store = place.open().await;
            let exchange = ExchangeId::from_slice(&ID).unwrap();
            let messages = u32::try_from(2 * ROWS + 1).unwrap();
            for sequence in 0..messages {
                let seal = store.sealer.seal(&message_place(&exchange, sequence), b"text");
                let row = sql("INSERT INTO messages (exchange_id, sequence, message) VALUES ($1, $2, $3)");
                store.write(row.bind(ID.as_slice()).bind(i64::from(sequence)).bind(seal)).await.unwrap();
            }
            store.sealer.replace_keys(&KeyRing::new(Zeroizing::new([1; 32])).rotate(Zeroizing::new([2; 32])));
            let all = u64::from(messages);
            assert_eq!(store.reseal().await.unwrap(), Resealed { seen: all, resealed: all, unopened: 0 });
        }
    }
}
