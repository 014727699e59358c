//! Whether an agency may come now: that it is enrolled, that it is active, and by which key it is known.
//!
//! An agency is known by the name in its certificate. Where an authority cannot write that name, the agency's keys are
//! pinned in the directory instead; then they decide, and no other key is the agency's.

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::day::optional_day;
use super::{Agency, AgencyStatus, Directory, DirectoryError};
use crate::domain::agency::CreditCode;
use crate::domain::calendar::legal_day;

/// SHA-256 over the DER of a subject public key info (RFC 7469 section 2.4): the same for a renewed certificate with
/// the same key.
pub type SpkiSha256 = [u8; 32];

/// A key that is an agency's, and when. Two at once let an agency change from one to the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinnedKey {
    /// SHA-256 of its subject public key info: 64 hex digits, colons between them or not. `cert show` prints it.
    #[serde(with = "hex")]
    pub spki_sha256: SpkiSha256,
    /// First day on which it is believed (Asia/Shanghai); without one, since ever.
    #[serde(default, deserialize_with = "optional_day", skip_serializing_if = "Option::is_none")]
    pub from: Option<Date>,
    /// Last such day; without one, until it is taken out.
    #[serde(default, deserialize_with = "optional_day", skip_serializing_if = "Option::is_none")]
    pub until: Option<Date>,
}

impl PinnedKey {
    fn is_in_force(&self, on: Date) -> bool {
        self.from.is_none_or(|from| from <= on) && self.until.is_none_or(|until| on <= until)
    }
}

/// Why an agency may not come, although its certificate is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Inadmissible {
    /// Nobody has enrolled it.
    #[error("the agency is not enrolled")]
    NotEnrolled,
    /// It is suspended.
    #[error("the agency is suspended")]
    Suspended,
    /// Its keys are pinned, and this is none of them.
    #[error("the agency is enrolled with another key")]
    OtherKey,
    /// The key is pinned for other days.
    #[error("the agency's key is not in force today")]
    KeyNotInForce,
}

impl Inadmissible {
    /// The reason in UPPER_SNAKE, as in the audit log.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotEnrolled => "AGENCY_NOT_ENROLLED",
            Self::Suspended => "AGENCY_SUSPENDED",
            Self::OtherKey => "KEY_NOT_ENROLLED",
            Self::KeyNotInForce => "KEY_NOT_IN_FORCE",
        }
    }
}

impl Directory {
    /// Whether the agency may come with this key now. Asked at the handshake, again with each call, and again of every
    /// open connection when the directory changes.
    ///
    /// # Errors
    /// Why it may not.
    pub fn admits(&self, code: &CreditCode, key: &SpkiSha256, now: Timestamp) -> Result<(), Inadmissible> {
        let agency = self.agency(code).ok_or(Inadmissible::NotEnrolled)?;
        match agency.status {
            AgencyStatus::Active => self.knows_key(code, key, now),
            AgencyStatus::Suspended => Err(Inadmissible::Suspended),
        }
    }

    /// Whether the key is the agency's now, as far as its keys are pinned.
    ///
    /// # Errors
    /// [`Inadmissible::OtherKey`] or [`Inadmissible::KeyNotInForce`].
    pub fn knows_key(&self, code: &CreditCode, key: &SpkiSha256, now: Timestamp) -> Result<(), Inadmissible> {
        let pinned = self.agency(code).map(|agency| agency.certificates.as_slice()).unwrap_or_default();
        if pinned.is_empty() {
            return Ok(());
        }
        let today = legal_day(now);
        let mut matching = pinned.iter().filter(|pinned| pinned.spki_sha256 == *key).peekable();
        if matching.peek().is_none() {
            return Err(Inadmissible::OtherKey);
        }
        let in_force = matching.any(|pinned| pinned.is_in_force(today));
        if in_force { Ok(()) } else { Err(Inadmissible::KeyNotInForce) }
    }

    /// The agency that a key is pinned to, on whatever days.
    pub fn pinned_to(&self, key: &SpkiSha256) -> Option<CreditCode> {
        self.pins.get(key).copied()
    }

    /// Notes the keys of an agency.
    pub(super) fn pin(&mut self, agency: &Agency) -> Result<(), DirectoryError> {
        for key in &agency.certificates {
            if matches!((key.from, key.until), (Some(from), Some(until)) if until < from) {
                return Err(DirectoryError::KeyEndsBeforeItBegins(agency.code));
            }
            let pinned_to = *self.pins.entry(key.spki_sha256).or_insert(agency.code);
            if pinned_to != agency.code {
                return Err(DirectoryError::KeyOfTwo { one: pinned_to, other: agency.code });
            }
        }
        Ok(())
    }
}

mod hex {
    use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::SpkiSha256;

    pub(super) fn serialize<S: Serializer>(hash: &SpkiSha256, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&HEXLOWER.encode(hash))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SpkiSha256, D::Error> {
        let digits = String::deserialize(deserializer)?.replace(':', "");
        let bytes = HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok();
        let hash = bytes.and_then(|bytes| SpkiSha256::try_from(bytes).ok());
        hash.ok_or_else(|| D::Error::custom("a SHA-256 is written as 64 hex digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Directory, DirectoryFile};

    const CENTRE: &str = "11320000MB151840XJ";
    const COURT: &str = "91350100M000100Y43";

    fn agency(code: &str, certificates: &str) -> String {
        format!(
            "[[agency]]\ncode = \"{code}\"\nname = \"an agency\"\nkind = \"legal-aid-centre\"\nregion = \"331004\"\n\
             certificates = [{certificates}]\n"
        )
    }

    fn pin(byte: u8, days: &str) -> String {
        format!("{{ spki_sha256 = \"{}\"{days} }}", format!("{byte:02X}").repeat(32))
    }

    fn admitted(directory: &Directory, key: u8, at: &str) -> Result<(), Inadmissible> {
        directory.admits(&CreditCode::parse(CENTRE).unwrap(), &[key; 32], at.parse().unwrap())
    }

    #[test]
    fn a_pinned_agency_comes_with_its_keys_on_their_days_and_with_no_other() {
        let two = [pin(1, ", until = 2026-06-30"), pin(2, ", from = \"2026-06-01\"")].join(", ");
        let directory = Directory::parse(&agency(CENTRE, &two)).unwrap();
        let centre = CreditCode::parse(CENTRE).unwrap();
        assert_eq!(directory.pinned_to(&[1; 32]), Some(centre));
        assert_eq!(directory.pinned_to(&[3; 32]), None);
        for at in ["2026-05-31T15:59:59Z", "2026-06-15T00:00:00Z", "2026-06-30T15:59:59Z"] {
            assert_eq!(admitted(&directory, 1, at), Ok(()), "{at}");
        }
        // Midnight in Shanghai.
        assert_eq!(admitted(&directory, 1, "2026-06-30T16:00:00Z"), Err(Inadmissible::KeyNotInForce));
        assert_eq!(admitted(&directory, 2, "2026-05-31T15:59:59Z"), Err(Inadmissible::KeyNotInForce));
        assert_eq!(admitted(&directory, 2, "2026-05-31T16:00:00Z"), Ok(()));
        assert_eq!(admitted(&directory, 3, "2026-06-15T00:00:00Z"), Err(Inadmissible::OtherKey));
    }

    #[test]
    fn an_agency_without_pins_comes_with_any_key_unless_suspended_or_not_enrolled() {
        let directory = Directory::parse(&agency(CENTRE, "")).unwrap();
        assert_eq!(admitted(&directory, 9, "2026-06-15T00:00:00Z"), Ok(()));
        let suspended = Directory::parse(&(agency(CENTRE, "") + "status = \"suspended\"")).unwrap();
        assert_eq!(admitted(&suspended, 9, "2026-06-15T00:00:00Z"), Err(Inadmissible::Suspended));
        assert_eq!(
            admitted(&Directory::default(), 9, "2026-06-15T00:00:00Z"),
            Err(Inadmissible::NotEnrolled)
        );
    }

    #[test]
    fn pins_that_contradict_each_other_are_refused() {
        let of_two = agency(CENTRE, &pin(1, "")) + &agency(COURT, &pin(1, ""));
        assert!(matches!(Directory::parse(&of_two), Err(DirectoryError::KeyOfTwo { .. })));
        let backwards = pin(1, ", from = 2026-06-01, until = 2026-05-31");
        let error = Directory::parse(&agency(CENTRE, &backwards)).unwrap_err();
        assert!(matches!(error, DirectoryError::KeyEndsBeforeItBegins(_)), "{error}");
        let short = agency(CENTRE, "{ spki_sha256 = \"abcd\" }");
        assert!(Directory::parse(&short).unwrap_err().to_string().contains("64 hex digits"));
    }

    #[test]
    fn a_pin_is_written_as_it_is_read_and_openssl_writes_it_with_colons() {
        let colons = ["AB"; 32].join(":");
        let text = agency(CENTRE, &format!("{{ spki_sha256 = \"{colons}\", until = 2026-12-31 }}"));
        let file: DirectoryFile = toml::from_str(&text).unwrap();
        let again: DirectoryFile = toml::from_str(&toml::to_string(&file).unwrap()).unwrap();
        assert_eq!(again.agencies[0].certificates, file.agencies[0].certificates);
        assert_eq!(again.agencies[0].certificates[0].spki_sha256, [0xab; 32]);
    }
}
