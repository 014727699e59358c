//! Which keys were taken into use, by fingerprint: the gateways on one database agree by it.

use jiff::Timestamp;

use super::database::{Connection, sql};
use super::effect::Rejection;
use super::{Store, StoreError};

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyUse {
    /// Seals bodies.
    Body,
    /// Makes pseudonyms.
    Pseudonym,
}

/// A key that is taken into use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyAdoption {
    /// What for.
    pub key: KeyUse,
    /// Names the key.
    pub fingerprint: String,
    /// When.
    pub at: Timestamp,
}

/// Takes a key into use. A key of pseudonyms only once, or gateways would go back and forth; that of bodies each gateway by itself.
pub(super) async fn adopt(
    connection: &mut Connection<'_>,
    adoption: &KeyAdoption,
) -> Result<Result<(), Rejection>, StoreError> {
    // Behind all that are there, also where this gateway's clock is behind.
    let text = match adoption.key {
        KeyUse::Body => {
            "INSERT INTO body_keys (fingerprint, adopted_us) \
             SELECT $1, CASE WHEN COALESCE(MAX(adopted_us), 0) >= $2 THEN MAX(adopted_us) + 1 ELSE $2 END \
             FROM body_keys WHERE 1 = 1 ON CONFLICT (fingerprint) DO NOTHING"
        }
        KeyUse::Pseudonym => {
            "INSERT INTO pseudonym_keys (fingerprint, adopted_us) \
             SELECT $1, CASE WHEN COALESCE(MAX(adopted_us), 0) >= $2 THEN MAX(adopted_us) + 1 ELSE $2 END \
             FROM pseudonym_keys WHERE 1 = 1 ON CONFLICT (fingerprint) DO NOTHING"
        }
    };
    let adopted =
        sql(text).bind(&adoption.fingerprint).bind(adoption.at.as_microsecond()).execute(connection).await?;
    let is_new = adopted == 1 || adoption.key == KeyUse::Body;
    Ok(if is_new { Ok(()) } else { Err(Rejection::Conflict) })
}

impl Store {
    /// Takes the first key of all into use.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn adopt_first_key(&self, adoption: &KeyAdoption) -> Result<(), StoreError> {
        let mut connection = self.writer.acquire().await?;
        let outcome = adopt(&mut connection.connection(), adoption).await;
        Self::discard_after_error(&mut connection, &outcome);
        outcome.map(|_| ())
    }

    /// The fingerprints of the keys that were taken into use, the latest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn adopted_keys(&self, key: KeyUse) -> Result<Vec<String>, StoreError> {
        let keys = sql(match key {
            KeyUse::Body => "SELECT fingerprint FROM body_keys ORDER BY adopted_us DESC",
            KeyUse::Pseudonym => "SELECT fingerprint FROM pseudonym_keys ORDER BY adopted_us DESC",
        });
        let keys = keys.fetch_all(&self.readers).await?;
        keys.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }
}
