//! Attachments: rows of sealed chunks, read and written one run of chunks at a time.
//!
//! They lie in the database and not beside it, so that one backup and one transaction hold them together with the exchange
//! that names them. An upload grows by itself; only what makes it whole goes through the audit log.

use jiff::Timestamp;
use uuid::Uuid;

use super::database::{Connection, Row, sql};
use super::{Store, StoreError, signed, unsigned};
use crate::domain::agency::CreditCode;
use crate::domain::attachment::MediaType;
use crate::domain::exchange::ExchangeId;

/// Clear bytes of a chunk; the last may have fewer.
pub const CHUNK_BYTES: usize = 64 * 1024;

/// An attachment, whole or on its way. It has no `Debug`: a file's name may be a person's.
#[derive(Clone)]
pub struct AttachmentRecord {
    /// Its id.
    pub attachment_id: Uuid,
    /// Who uploads it.
    pub owner: CreditCode,
    /// Bytes of the whole.
    pub size: u64,
    /// Bytes that are stored.
    pub received: u64,
    /// When it became whole.
    pub completed: Option<Timestamp>,
    /// What it is.
    pub media_type: MediaType,
    /// File name.
    pub name: String,
}

/// What one agency may hold, whole or on its way.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Attachments and uploads.
    pub attachments: u64,
    /// Their bytes, as announced.
    pub bytes: u64,
}

/// How the beginning of an upload went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It has begun.
    Yes,
    /// The attachment became whole meanwhile.
    WholeAlready,
    /// Its owner holds too much.
    NoRoom,
}

/// An upload that begins.
pub struct NewAttachment {
    /// Its id.
    pub attachment_id: Uuid,
    /// Who uploads it.
    pub owner: CreditCode,
    /// Keyed digest.
    pub digest: [u8; 32],
    /// Bytes of the whole.
    pub size: u64,
    /// What it is.
    pub media_type: MediaType,
    /// File name.
    pub name: String,
    /// When.
    pub at: Timestamp,
}

const SELECT: &str =
    "SELECT a.attachment_id, a.owner, a.size, a.received, a.completed_us, a.details FROM attachments a";

impl Store {
    /// An agency's own attachment or upload, by its keyed digest.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn own_attachment(
        &self,
        owner: &CreditCode,
        digest: &[u8; 32],
    ) -> Result<Option<AttachmentRecord>, StoreError> {
        let row = sql(format!("{SELECT} WHERE a.owner = $1 AND a.digest = $2"))
            .bind(owner.as_str())
            .bind(digest.as_slice())
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(|row| self.attachment(row)).transpose()
    }

    /// The whole attachment of a keyed digest that `party` may read: its own, or one that its uploader named in an
    /// exchange that both are party to. Whether another's exists is not told apart.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn readable_attachment(
        &self,
        party: &CreditCode,
        digest: &[u8; 32],
    ) -> Result<Option<AttachmentRecord>, StoreError> {
        let text = format!(
            "{SELECT} WHERE a.digest = $2 AND a.completed_us IS NOT NULL AND (a.owner = $1 OR EXISTS \
             (SELECT 1 FROM exchange_attachments n JOIN exchanges x ON x.exchange_id = n.exchange_id \
              WHERE n.digest = a.digest AND n.named_by = a.owner AND (x.sender = $1 OR x.recipient = $1))) \
             ORDER BY a.owner = $1 DESC, a.attachment_id LIMIT 1"
        );
        let row =
            sql(text).bind(party.as_str()).bind(digest.as_slice()).fetch_optional(&self.readers).await?;
        row.as_ref().map(|row| self.attachment(row)).transpose()
    }

    /// Whether an agency may hold one more attachment of `size` bytes.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn has_room(&self, owner: &CreditCode, size: u64, room: Room) -> Result<bool, StoreError> {
        let mut connection = self.readers.acquire().await?;
        has_room_on(&mut connection.connection(), owner, size, room).await
    }

    /// Begins an upload, in place of an unfinished one of the same owner and digest.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn begin_upload(&self, new: &NewAttachment, room: Room) -> Result<Begun, StoreError> {
        let details = format!("{}\0{}", new.media_type, new.name);
        let details = self.sealer.seal(&details_place(&new.attachment_id), details.as_bytes());
        let mut connection = self.writer.acquire().await?;
        let outcome = begin_on(&mut connection.connection(), new, &details, room).await;
        Self::discard_after_error(&mut connection, &outcome);
        outcome
    }

    /// Stores chunks of an upload behind its first `received` bytes. `false` when the upload has gone, or was carried on
    /// by somebody else meanwhile; then nothing was stored.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn add_chunks(
        &self,
        attachment_id: &Uuid,
        received: u64,
        chunks: &[Vec<u8>],
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let first = received / CHUNK_BYTES as u64;
        let sealed: Vec<(i64, Vec<u8>)> = (first..)
            .zip(chunks)
            .map(|(index, chunk)| {
                (signed(index), self.sealer.seal(&chunk_place(attachment_id, index), chunk))
            })
            .collect();
        let after = received + chunks.iter().map(|chunk| chunk.len() as u64).sum::<u64>();
        let mut connection = self.writer.acquire().await?;
        let outcome =
            add_on(&mut connection.connection(), attachment_id, [received, after], sealed, at).await;
        Self::discard_after_error(&mut connection, &outcome);
        outcome
    }

    /// One chunk, opened.
    ///
    /// # Errors
    /// When the database does not answer, the chunk is not there or does not open.
    pub async fn chunk(&self, attachment_id: &Uuid, index: u64) -> Result<Vec<u8>, StoreError> {
        let row = sql("SELECT chunk FROM attachment_chunks WHERE attachment_id = $1 AND idx = $2")
            .bind(attachment_id.as_bytes().as_slice())
            .bind(signed(index))
            .fetch_one(&self.readers)
            .await?;
        Ok(self.sealer.open(&chunk_place(attachment_id, index), row.try_get(0)?)?)
    }

    /// Removes an upload that is not whole.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn remove_upload(&self, attachment_id: &Uuid) -> Result<(), StoreError> {
        let mut connection = self.writer.acquire().await?;
        let outcome =
            remove_on(&mut connection.connection(), i64::MAX, &[attachment_id.as_bytes().to_vec()]).await;
        Self::discard_after_error(&mut connection, &outcome);
        outcome.map(|_| ())
    }

    /// Removes uploads that have not grown since `before` and are not whole. Returns how many.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn forget_uploads(&self, before: Timestamp) -> Result<u64, StoreError> {
        let old = sql(
            "SELECT attachment_id FROM attachments WHERE completed_us IS NULL AND touched_us < $1 LIMIT 16",
        )
        .bind(before.as_microsecond())
        .fetch_all(&self.readers)
        .await?;
        let old = old.iter().map(|row| row.try_get(0)).collect::<Result<Vec<Vec<u8>>, sqlx::Error>>()?;
        if old.is_empty() {
            return Ok(0);
        }
        let mut connection = self.writer.acquire().await?;
        let outcome = remove_on(&mut connection.connection(), before.as_microsecond(), &old).await;
        Self::discard_after_error(&mut connection, &outcome);
        outcome
    }

    fn attachment(&self, row: &Row) -> Result<AttachmentRecord, StoreError> {
        let inconsistent = |column| StoreError::Inconsistent { table: "attachments", column };
        let attachment_id = Uuid::from_slice(row.try_get(0)?).map_err(|_| inconsistent("attachment_id"))?;
        let details = self.sealer.open(&details_place(&attachment_id), row.try_get(5)?)?;
        let details = String::from_utf8(details).map_err(|_| inconsistent("details"))?;
        let (media_type, name) = details.split_once('\0').ok_or_else(|| inconsistent("details"))?;
        let completed = row.try_get::<Option<i64>>(4)?.map(Timestamp::from_microsecond).transpose();
        Ok(AttachmentRecord {
            attachment_id,
            owner: CreditCode::parse(row.try_get(1)?).map_err(|_| inconsistent("owner"))?,
            size: unsigned(row.try_get(2)?, "attachments", "size")?,
            received: unsigned(row.try_get(3)?, "attachments", "received")?,
            completed: completed.map_err(|_| inconsistent("completed_us"))?,
            media_type: MediaType::from_name(media_type).ok_or_else(|| inconsistent("details"))?,
            name: name.to_owned(),
        })
    }
}

async fn begin_on(
    connection: &mut Connection<'_>,
    new: &NewAttachment,
    details: &[u8],
    room: Room,
) -> Result<Begun, StoreError> {
    let mut transaction = connection.begin().await?;
    // Nobody else begins one for this owner, or goes on with the one that this one takes the place of.
    sql("SELECT pg_advisory_xact_lock(hashtextextended('attachments of ' || $1, 0))")
        .bind(new.owner.as_str())
        .execute_on_postgres(&mut transaction)
        .await?;
    sql("SELECT 1 FROM attachments WHERE owner = $1 AND digest = $2 AND completed_us IS NULL FOR UPDATE")
        .bind(new.owner.as_str())
        .bind(new.digest.as_slice())
        .execute_on_postgres(&mut transaction)
        .await?;
    sql("DELETE FROM attachment_chunks WHERE attachment_id IN \
         (SELECT attachment_id FROM attachments WHERE owner = $1 AND digest = $2 AND completed_us IS NULL)")
    .bind(new.owner.as_str())
    .bind(new.digest.as_slice())
    .execute(&mut transaction)
    .await?;
    sql("DELETE FROM attachments WHERE owner = $1 AND digest = $2 AND completed_us IS NULL")
        .bind(new.owner.as_str())
        .bind(new.digest.as_slice())
        .execute(&mut transaction)
        .await?;
    // Asked in the transaction: many at once must not go beyond it together.
    if !has_room_on(&mut transaction.connection(), &new.owner, new.size, room).await? {
        transaction.rollback().await?;
        return Ok(Begun::NoRoom);
    }
    let begun =
        sql("INSERT INTO attachments (attachment_id, owner, digest, size, details, received, touched_us) \
         VALUES ($1, $2, $3, $4, $5, 0, $6) ON CONFLICT (owner, digest) DO NOTHING")
        .bind(new.attachment_id.as_bytes().as_slice())
        .bind(new.owner.as_str())
        .bind(new.digest.as_slice())
        .bind(signed(new.size))
        .bind(details)
        .bind(new.at.as_microsecond())
        .execute(&mut transaction)
        .await?;
    transaction.commit().await?;
    Ok(if begun == 1 { Begun::Yes } else { Begun::WholeAlready })
}

async fn has_room_on(
    connection: &mut Connection<'_>,
    owner: &CreditCode,
    size: u64,
    room: Room,
) -> Result<bool, StoreError> {
    let row =
        sql("SELECT COUNT(*), CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM attachments WHERE owner = $1")
            .bind(owner.as_str())
            .fetch_one(connection)
            .await?;
    let held = unsigned(row.try_get(0)?, "attachments", "owner")?;
    let bytes = unsigned(row.try_get(1)?, "attachments", "size")?;
    Ok(held < room.attachments && bytes.saturating_add(size) <= room.bytes)
}

async fn add_on(
    connection: &mut Connection<'_>,
    attachment_id: &Uuid,
    [before, after]: [u64; 2],
    chunks: Vec<(i64, Vec<u8>)>,
    at: Timestamp,
) -> Result<bool, StoreError> {
    let mut transaction = connection.begin().await?;
    let grown = sql("UPDATE attachments SET received = $1, touched_us = $2 \
         WHERE attachment_id = $3 AND received = $4 AND completed_us IS NULL")
    .bind(signed(after))
    .bind(at.as_microsecond())
    .bind(attachment_id.as_bytes().as_slice())
    .bind(signed(before))
    .execute(&mut transaction)
    .await?;
    if grown != 1 {
        transaction.rollback().await?;
        return Ok(false);
    }
    for (index, chunk) in chunks {
        sql("INSERT INTO attachment_chunks (attachment_id, idx, chunk) VALUES ($1, $2, $3)")
            .bind(attachment_id.as_bytes().as_slice())
            .bind(index)
            .bind(chunk)
            .execute(&mut transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok(true)
}

/// Removes those of `ids` that are still not whole and have not grown since `before`.
async fn remove_on(connection: &mut Connection<'_>, before: i64, ids: &[Vec<u8>]) -> Result<u64, StoreError> {
    const STILL_OLD: &str = "SELECT attachment_id FROM attachments WHERE attachment_id = $1 \
                             AND completed_us IS NULL AND touched_us < $2";
    let mut transaction = connection.begin().await?;
    let mut removed = 0;
    for id in ids {
        sql("SELECT 1 FROM attachments WHERE attachment_id = $1 FOR UPDATE")
            .bind(id)
            .execute_on_postgres(&mut transaction)
            .await?;
        for table in ["attachment_chunks", "attachments"] {
            let text = format!("DELETE FROM {table} WHERE attachment_id IN ({STILL_OLD})");
            let rows = sql(text).bind(id).bind(before).execute(&mut transaction).await?;
            if table == "attachments" {
                removed += rows;
            }
        }
    }
    transaction.commit().await?;
    Ok(removed)
}

/// Removes the attachments that messages of an exchange name and those of no other do. Returns how many.
pub(super) async fn remove_named(
    connection: &mut Connection<'_>,
    exchange_id: &ExchangeId,
) -> Result<u64, StoreError> {
    let only_named_here = "SELECT a.attachment_id FROM attachments a JOIN exchange_attachments n \
         ON n.digest = a.digest AND n.named_by = a.owner WHERE n.exchange_id = $1 AND NOT EXISTS \
         (SELECT 1 FROM exchange_attachments o WHERE o.digest = a.digest AND o.named_by = a.owner \
          AND o.exchange_id <> $1)";
    let mut removed = 0;
    for table in ["attachment_chunks", "attachments"] {
        let text = format!("DELETE FROM {table} WHERE attachment_id IN ({only_named_here})");
        let rows = sql(text).bind(exchange_id.as_bytes().as_slice()).execute(&mut *connection).await?;
        removed = rows;
    }
    sql("DELETE FROM exchange_attachments WHERE exchange_id = $1")
        .bind(exchange_id.as_bytes().as_slice())
        .execute(&mut *connection)
        .await?;
    Ok(removed)
}

/// Notes which digests a message names.
pub(super) async fn name(
    connection: &mut Connection<'_>,
    exchange_id: &ExchangeId,
    named_by: &CreditCode,
    digests: &[[u8; 32]],
) -> Result<(), StoreError> {
    for digest in digests {
        sql("INSERT INTO exchange_attachments (exchange_id, named_by, digest) VALUES ($1, $2, $3) \
             ON CONFLICT DO NOTHING")
        .bind(exchange_id.as_bytes().as_slice())
        .bind(named_by.as_str())
        .bind(digest.as_slice())
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Ends an upload all of which is stored. Returns how many rows that were.
pub(super) async fn complete(
    connection: &mut Connection<'_>,
    attachment_id: &Uuid,
    at: Timestamp,
) -> Result<u64, StoreError> {
    let completed = sql(
        "UPDATE attachments SET completed_us = $1 WHERE attachment_id = $2 AND received = size AND completed_us IS NULL",
    )
    .bind(at.as_microsecond())
    .bind(attachment_id.as_bytes().as_slice())
    .execute(connection)
    .await?;
    Ok(completed)
}

pub(super) fn details_place(attachment_id: &Uuid) -> String {
    format!("attachment/{attachment_id}")
}

pub(super) fn chunk_place(attachment_id: &Uuid, index: u64) -> String {
    format!("attachment/{attachment_id}/{index}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::databases_in_tests::on_each_database;

    const NOW: Timestamp = Timestamp::constant(1_780_000_000, 0);

    fn code(text: &str) -> CreditCode {
        CreditCode::parse(text).unwrap()
    }

    fn exchange(number: u128) -> ExchangeId {
        ExchangeId::new(Uuid::from_u128(number))
    }

    const ROOM: Room = Room { attachments: 10, bytes: 1000 };

    fn new(owner: &CreditCode, digest: u8) -> NewAttachment {
        NewAttachment {
            attachment_id: Uuid::from_u128(u128::from(digest)),
            owner: *owner,
            digest: [digest; 32],
            size: 5,
            media_type: MediaType::Pdf,
            name: "a.pdf".to_owned(),
            at: NOW,
        }
    }

    async fn store_one(store: &Store, owner: &CreditCode, digest: u8) -> Uuid {
        let new = new(owner, digest);
        let attachment_id = new.attachment_id;
        assert_eq!(store.begin_upload(&new, ROOM).await.unwrap(), Begun::Yes);
        assert!(store.add_chunks(&attachment_id, 0, &[b"%PDF-".to_vec()], NOW).await.unwrap());
        // Carried on from the same place twice: the second is too late.
        assert!(!store.add_chunks(&attachment_id, 0, &[b"%PDF-".to_vec()], NOW).await.unwrap());
        let mut acquired = store.writer.acquire().await.unwrap();
        let mut connection = acquired.connection();
        assert_eq!(complete(&mut connection, &attachment_id, NOW).await.unwrap(), 1);
        attachment_id
    }

    on_each_database! {
        async fn attachments_go_with_the_last_exchange_that_names_them(place: Place) {
            let store = place.open().await;
            let (owner, other) = (code("12331004MB0000002T"), code("11331004MB00000031"));
            let only_here = store_one(&store, &owner, 1).await;
            let elsewhere_too = store_one(&store, &owner, 2).await;
            let unnamed = store_one(&store, &owner, 3).await;
            let of_other = store_one(&store, &other, 4).await;
            let mut acquired = store.writer.acquire().await.unwrap();
            let mut connection = acquired.connection();
            name(&mut connection, &exchange(1), &owner, &[[1; 32], [2; 32], [4; 32]]).await.unwrap();
            name(&mut connection, &exchange(2), &owner, &[[2; 32]]).await.unwrap();
            assert_eq!(remove_named(&mut connection, &exchange(1)).await.unwrap(), 1);
            assert!(store.chunk(&only_here, 0).await.is_err());
            for kept in [elsewhere_too, unnamed, of_other] {
                assert_eq!(store.chunk(&kept, 0).await.unwrap(), b"%PDF-");
            }
            assert_eq!(remove_named(&mut connection, &exchange(2)).await.unwrap(), 1);
            assert!(store.chunk(&elsewhere_too, 0).await.is_err());
            drop(acquired);
            let one_more = |attachments| Room { attachments, ..ROOM };
            assert!(!store.has_room(&owner, 5, one_more(1)).await.unwrap());
            assert!(store.has_room(&owner, 5, one_more(2)).await.unwrap());
            store.close().await;
        }

        async fn uploads_that_begin_at_once_do_not_go_beyond_what_an_agency_may_hold(place: Place) {
            let store = place.open().await;
            let owner = code("12331004MB0000002T");
            for room in [Room { attachments: 3, bytes: 1000 }, Room { attachments: 10, bytes: 19 }] {
                let mut beginnings = tokio::task::JoinSet::new();
                for digest in 1..=8 {
                    let (store, new) = (store.clone(), new(&owner, digest));
                    beginnings.spawn(async move { store.begin_upload(&new, room).await.unwrap() });
                }
                let begun = beginnings.join_all().await;
                assert_eq!(begun.iter().filter(|begun| **begun == Begun::Yes).count(), 3);
                assert_eq!(begun.iter().filter(|begun| **begun == Begun::NoRoom).count(), 5);
                store.forget_uploads(NOW + jiff::SignedDuration::from_secs(1)).await.unwrap();
            }
            // What is refused leaves the upload that it would have taken the place of.
            assert_eq!(store.begin_upload(&new(&owner, 1), ROOM).await.unwrap(), Begun::Yes);
            let larger = NewAttachment { size: 2000, attachment_id: Uuid::from_u128(9), ..new(&owner, 1) };
            assert_eq!(store.begin_upload(&larger, ROOM).await.unwrap(), Begun::NoRoom);
            assert_eq!(store.own_attachment(&owner, &[1; 32]).await.unwrap().unwrap().size, 5);
            store.close().await;
        }

        async fn an_upload_of_what_became_whole_meanwhile_does_not_begin(place: Place) {
            let store = place.open().await;
            let owner = code("12331004MB0000002T");
            let whole = store_one(&store, &owner, 1).await;
            let again = NewAttachment { attachment_id: Uuid::from_u128(9), ..new(&owner, 1) };
            assert_eq!(store.begin_upload(&again, ROOM).await.unwrap(), Begun::WholeAlready);
            assert_eq!(store.chunk(&whole, 0).await.unwrap(), b"%PDF-");
            store.close().await;
        }

        async fn a_chunk_opens_only_in_its_place(place: Place) {
            let store = place.open().await;
            let owner = code("12331004MB0000002T");
            let (one, two) = (store_one(&store, &owner, 1).await, store_one(&store, &owner, 2).await);
            sql("UPDATE attachment_chunks SET chunk = (SELECT chunk FROM attachment_chunks WHERE attachment_id = $1)")
                .bind(one.as_bytes().as_slice())
                .execute(&store.writer)
                .await
                .unwrap();
            assert!(store.chunk(&one, 0).await.is_ok());
            assert!(matches!(store.chunk(&two, 0).await, Err(StoreError::Unseal(_))));
            store.close().await;
        }
    }
}
