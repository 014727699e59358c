//! The machine-readable agreement: the concrete subjects, contents and procedure of cooperation.

mod denial;
mod evaluation;
mod terms;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

pub use self::denial::Denial;
pub use self::terms::{BatchTerms, RateTerms};
use super::Method;
use crate::audit::entry::AgreementReference;
use crate::domain::agency::{CreditCode, PurposeCode};

/// The machine-readable agreement: the concrete subjects, contents and procedure of cooperation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agreement {
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: u32,
    /// Who may call.
    pub caller: CreditCode,
    /// Which methods.
    pub methods: Vec<Method>,
    /// Whom it may ask or write to; for methods that concern no counterpart it may be empty.
    #[serde(default)]
    pub counterparts: Vec<CreditCode>,
    /// For which purposes.
    pub purposes: Vec<PurposeCode>,
    /// First day in force (Asia/Shanghai).
    #[serde(deserialize_with = "day")]
    pub from: Date,
    /// Last day in force.
    #[serde(deserialize_with = "day")]
    pub until: Date,
    /// How fast batches may go; without it, as [`BatchTerms::default`] says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchTerms>,
    /// How fast calls may come under it; without it, as fast as the gateway's own limits let them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateTerms>,
}

/// A day as text, or as TOML's own date.
fn day<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Date, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Text(String),
        Toml(toml::value::Datetime),
    }
    let text = match Written::deserialize(deserializer)? {
        Written::Text(text) => text,
        Written::Toml(datetime) => datetime.to_string(),
    };
    text.parse().map_err(|_| serde::de::Error::custom("a day is written as 2026-01-31"))
}

impl Agreement {
    fn reference(&self) -> AgreementReference {
        AgreementReference { id: self.id.clone(), version: self.version.to_string() }
    }
}
