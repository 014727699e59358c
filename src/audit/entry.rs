//! One entry of the log: what was asked, by whom, on which ground, and how it ended.

use std::borrow::Cow;

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use thiserror::Error;
use uuid::Uuid;

use super::removal::Removal;
pub use super::secret::{Field, PseudonymKey, Salt};

/// Largest entry, in bytes of canonical JSON.
pub const MAX_ENTRY_BYTES: usize = 16 * 1024;

/// An entry as it is written: RFC 8785 canonical JSON with 64-bit numbers as strings. It holds no personal
/// value: a person appears as a keyed pseudonym, a message as a salted commitment.
///
/// The fields stand in the order that RFC 8785 sorts them in, so that plain serialisation is canonical: a general
/// canonicaliser took eleven times as long, in the one place that every call waits for. A test compares the two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The agreement that allowed the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreement: Option<AgreementReference>,
    /// What becomes of an agreement by the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreement_change: Option<Box<AgreementChange>>,
    /// Unified social credit code of the calling agency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// SHA-256 of the caller's public key (SubjectPublicKeyInfo), lower-case hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// gRPC code by name, such as `OK`; absent in a REQUEST.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Cow<'static, str>>,
    /// The agreements that name caller and method but do not allow the call, each with the condition that failed, such as
    /// `LQ-VERIFY/3 PURPOSE_NOT_AGREED`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub considered: Vec<String>,
    /// Credit code of the agency that is asked or written to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counterpart: Option<String>,
    /// Whether access was allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// The delivery concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Uuid>,
    /// Time from arrival to this entry, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "decimal")]
    pub duration_us: Option<u64>,
    /// The exchange concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exchange: Option<Uuid>,
    /// The finding that an auditor marks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finding: Option<Uuid>,
    /// Identifier of the entry (UUID version 7).
    pub id: Uuid,
    /// Messages that a stream gave, in the entry that ends it; calls that were refused, in an entry of several.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "decimal")]
    pub items: Option<u64>,
    /// Kind of the exchange or question, such as `FEE_WAIVER`, where the call is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<Cow<'static, str>>,
    /// Articles relied on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub legal_basis: Vec<String>,
    /// The centre's matter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matter: Option<String>,
    /// Method, such as `SubmitExchange`.
    pub method: Cow<'static, str>,
    /// Which gateway node wrote it.
    pub node: String,
    /// When the call arrived.
    pub occurred: Timestamp,
    /// Staff number of the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// Commitment to the operator's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator_name: Option<Commitment>,
    /// What the entry witnesses.
    pub phase: Phase,
    /// Purpose code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// Reason in UPPER_SNAKE, as the caller sees it in `google.rpc.ErrorInfo`, or of an odd answer. Where a denial would tell that
    /// something exists, the caller sees NOT_FOUND, and the reason stands here alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'static, str>>,
    /// When the log accepted the entry; set by the log itself.
    pub recorded: Timestamp,
    /// What was, or is to be, erased or pruned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removal: Option<Box<Removal>>,
    /// The caller's request id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<Uuid>,
    /// Commitment to the request's bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_commitment: Option<Commitment>,
    /// Index of the REQUEST that this entry ends.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "decimal")]
    pub request_index: Option<u64>,
    /// Commitment to the answer's bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_commitment: Option<Commitment>,
    /// Version of this schema: "1".
    pub schema: Cow<'static, str>,
    /// What a search of the log was by: the names of the keys, such as `caller,code`, never their values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search: Option<String>,
    /// Service, such as `legalaid.exchange.v1.ExchangeService`.
    pub service: Cow<'static, str>,
    /// Keyed pseudonym of the person concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Commitment to the person's document, as [`super::secret::subject_bytes`] writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject_commitment: Option<Commitment>,
    /// Trace id, 32 hex digits, as in the W3C traceparent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// Trace ids of the calls behind the first, in an entry of several that were refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traces: Vec<String>,
    /// Unit of the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Fields of a register's answer that the agreement does not disclose, and that were left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub withheld: Vec<Cow<'static, str>>,
}

/// What an entry witnesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Phase {
    /// A call with effect was accepted; written before anything is dispatched.
    Request,
    /// How a REQUEST ended; written before the answer leaves.
    Response,
    /// A local read, in one entry.
    Read,
    /// A call was refused, in one entry; nothing was dispatched.
    Refused,
    /// A connection was refused by policy although its certificate is genuine.
    HandshakeRefused,
    /// A REQUEST whose end is not known: the gateway stopped between the two entries.
    Interrupted,
    /// Something that the gateway did by itself, in one entry; nothing left the gateway.
    Event,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 7] = [
        Self::Request,
        Self::Response,
        Self::Read,
        Self::Refused,
        Self::HandshakeRefused,
        Self::Interrupted,
        Self::Event,
    ];

    /// The phase's name in an entry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "REQUEST",
            Self::Response => "RESPONSE",
            Self::Read => "READ",
            Self::Refused => "REFUSED",
            Self::HandshakeRefused => "HANDSHAKE_REFUSED",
            Self::Interrupted => "INTERRUPTED",
            Self::Event => "EVENT",
        }
    }
}

/// Whether access was allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Decision {
    /// An agreement in force allowed it.
    Allow,
    /// None did.
    Deny,
}

/// The agreement that allowed a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgreementReference {
    /// Its id.
    pub id: String,
    /// Its version, a decimal string.
    pub version: String,
}

/// What becomes of an agreement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgreementChange {
    /// `PUT`, `APPROVE` or `END`.
    pub act: Cow<'static, str>,
    /// Its id.
    pub id: String,
    /// Who put in what is approved: credit code, unit and staff number; `directory file` where that did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub put_by: Option<String>,
    /// SHA-256 of its terms as canonical JSON, lower-case hex.
    pub sha256: String,
    /// Where the version stands afterwards, such as `EFFECTIVE`.
    pub state: Cow<'static, str>,
    /// The version, a decimal string.
    pub version: String,
}

/// HMAC-SHA256 of a value under the salt of its field, as lower-case hex. With the salt gone, it says nothing about
/// the value; with it, it proves the value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Commitment(pub String);

/// Why an entry cannot be written.
#[derive(Debug, Error)]
pub enum EntryError {
    /// The entry is not representable as canonical JSON.
    #[error("entry cannot be written as canonical json")]
    NotCanonical(#[source] serde_json::Error),
    /// The entry is too large.
    #[error("entry has {0} bytes, at most {MAX_ENTRY_BYTES} are allowed")]
    TooLarge(usize),
}

impl Entry {
    /// An entry of `phase` for a method of a service; the rest is filled in by who knows it.
    pub fn new(
        id: Uuid,
        phase: Phase,
        occurred: Timestamp,
        service: &'static str,
        method: &'static str,
        node: &str,
    ) -> Self {
        Self {
            schema: Cow::Borrowed("1"),
            id,
            phase,
            occurred,
            recorded: occurred,
            service: Cow::Borrowed(service),
            method: Cow::Borrowed(method),
            caller: None,
            certificate: None,
            unit: None,
            operator: None,
            operator_name: None,
            counterpart: None,
            purpose: None,
            legal_basis: Vec::new(),
            agreement: None,
            agreement_change: None,
            considered: Vec::new(),
            withheld: Vec::new(),
            decision: None,
            request: None,
            exchange: None,
            delivery: None,
            kind: None,
            finding: None,
            matter: None,
            subject: None,
            subject_commitment: None,
            request_commitment: None,
            response_commitment: None,
            code: None,
            reason: None,
            removal: None,
            request_index: None,
            duration_us: None,
            items: None,
            search: None,
            node: node.to_owned(),
            trace: None,
            traces: Vec::new(),
        }
    }

    /// The exact bytes to store and hash: RFC 8785 canonical JSON.
    ///
    /// # Errors
    /// When the entry is larger than [`MAX_ENTRY_BYTES`].
    pub fn to_canonical_json(&self) -> Result<Vec<u8>, EntryError> {
        self.to_canonical_json_by(&mut Vec::new())
    }

    /// The same, composed in memory that is used again for the next entry.
    ///
    /// # Errors
    /// As [`Entry::to_canonical_json`].
    pub fn to_canonical_json_by(&self, scratch: &mut Vec<u8>) -> Result<Vec<u8>, EntryError> {
        scratch.clear();
        serde_json::to_writer(&mut *scratch, self).map_err(EntryError::NotCanonical)?;
        if scratch.len() > MAX_ENTRY_BYTES {
            return Err(EntryError::TooLarge(scratch.len()));
        }
        Ok(scratch.as_slice().to_vec())
    }

    /// Reads an entry back.
    ///
    /// # Errors
    /// When the bytes are not an entry of this schema.
    pub fn from_json(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

/// HMAC-SHA256. (A call takes a dozen, most of a few bytes, and this library has no context to set up for each.)
pub fn keyed_digest(key: &[u8], message: &[u8]) -> [u8; 32] {
    // Of any length: one longer than a block is hashed first.
    let mac =
        Hmac::<Sha256>::new_from_slice(key).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
    mac.chain_update(message).finalize().into_bytes().into()
}

pub(super) mod decimal {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    #[allow(clippy::ref_option, reason = "serde's signature")]
    pub(in crate::audit) fn serialize<S: Serializer>(
        value: &Option<u64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(number) => serializer.collect_str(number),
            None => serializer.serialize_none(),
        }
    }

    pub(in crate::audit) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<u64>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|digits| digits.parse().map_err(D::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::super::removal::{ErasureGround, RemovalKind};
    use super::*;

    fn sample() -> Entry {
        let mut entry = Entry::new(
            Uuid::from_u128(7),
            Phase::Response,
            Timestamp::UNIX_EPOCH,
            "legalaid.exchange.v1.ExchangeService",
            "SubmitExchange",
            "node-1",
        );
        entry.request_index = Some(u64::MAX);
        entry.legal_basis = vec!["法律援助法 41".to_owned()];
        entry
    }

    #[test]
    fn an_entry_is_canonical_and_reads_back() {
        let bytes = sample().to_canonical_json().unwrap();
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(text.contains("\"request_index\":\"18446744073709551615\""), "{text}");
        assert_eq!(Entry::from_json(&bytes).unwrap(), sample());
    }

    #[test]
    fn plain_serialisation_is_canonical_whatever_the_entry_holds() {
        let text: &'static str = "\u{1}\"\\/\t\u{7f}\u{2028}法\u{1f600}";
        let some = || Some(text.to_owned());
        let full = Entry {
            agreement: Some(AgreementReference { id: text.to_owned(), version: "1".to_owned() }),
            agreement_change: Some(Box::new(AgreementChange {
                act: text.into(),
                id: text.to_owned(),
                put_by: some(),
                sha256: text.to_owned(),
                state: text.into(),
                version: text.to_owned(),
            })),
            caller: some(),
            certificate: some(),
            code: Some(text.into()),
            considered: vec![text.to_owned()],
            counterpart: some(),
            decision: Some(Decision::Allow),
            delivery: Some(Uuid::from_u128(1)),
            duration_us: Some(0),
            exchange: Some(Uuid::from_u128(2)),
            finding: Some(Uuid::from_u128(4)),
            items: Some(3),
            kind: Some(text.into()),
            matter: some(),
            operator: some(),
            operator_name: Some(Commitment(text.to_owned())),
            purpose: some(),
            reason: Some(text.into()),
            removal: Some(Box::new(Removal {
                approval: some(),
                before: Some(Timestamp::UNIX_EPOCH),
                entries: Some(1),
                exchanges: Some(0),
                ground: Some(ErasureGround::ConsentWithdrawn),
                kind: RemovalKind::Subject,
                ranges: Some([3, 5].into_iter().collect()),
            })),
            request: Some(Uuid::from_u128(3)),
            request_commitment: Some(Commitment(text.to_owned())),
            response_commitment: Some(Commitment(text.to_owned())),
            search: some(),
            subject: some(),
            subject_commitment: Some(Commitment(text.to_owned())),
            trace: some(),
            traces: vec![text.to_owned(), text.to_owned()],
            unit: some(),
            withheld: vec![text.into()],
            ..sample()
        };
        for entry in [full, sample()] {
            let canonical = serde_json_canonicalizer::to_vec(&entry).unwrap();
            assert_eq!(entry.to_canonical_json().unwrap(), canonical);
        }
    }

    #[test]
    fn an_oversized_entry_is_refused() {
        let mut entry = sample();
        entry.legal_basis = vec!["x".repeat(MAX_ENTRY_BYTES)];
        assert!(matches!(entry.to_canonical_json(), Err(EntryError::TooLarge(_))));
    }
}
