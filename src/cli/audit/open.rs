//! `audit open`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{DEADLINE, entry_json};
use crate::audit::entry::{Commitment, Entry, Field};
use crate::audit::secret::commitment;
use crate::cli::output::{explain, say, say_json};
use crate::client::AgencyClient;
use crate::clock::Clock;
use crate::grpc::proto;
use crate::setup::purposes;

/// Arguments of `audit open`.
#[derive(Debug, Args)]
#[command(after_help = "\
A commitment is HMAC-SHA256 of the value under the salt. So anybody can check it, for instance with
  openssl dgst -sha256 -mac HMAC -macopt hexkey:SALT VALUE-FILE")]
pub(in crate::cli) struct Open {
    /// The profile of an auditor, or of an agency that is party to the entry.
    #[arg(long = "as", value_name = "FILE", required_unless_present = "check")]
    profile: Option<PathBuf>,
    /// Purpose code of the agreement.
    #[arg(long, default_value = purposes::AUDIT_INSPECTION)]
    purpose: String,
    /// The entry's index.
    #[arg(required_unless_present = "check", conflicts_with = "check")]
    index: Option<u64>,
    /// What to open: operator_name, subject, request or response. May be given several times.
    #[arg(long = "field", value_name = "FIELD", value_parser = field, required_unless_present = "check")]
    fields: Vec<Field>,
    /// The value as you have it, where the gateway does not keep it: proves that it is the one.
    #[arg(long, value_name = "FILE")]
    value: Option<PathBuf>,
    /// Where to put what was opened; `--check` reads it. It must not be there yet.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Check what was opened before, offline.
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// An entry with what was opened of it, as `--save` writes it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Opening {
    index: u64,
    /// The entry's exact bytes.
    entry: String,
    fields: Vec<Opened>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Opened {
    field: Field,
    /// Lower-case hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    salt: Option<String>,
    /// Base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    /// Why there is no salt, or no value.
    #[serde(skip_serializing_if = "Option::is_none")]
    why_not: Option<String>,
}

/// What checking a field came to.
enum Checked {
    /// The value is the one that the entry commits to.
    Proven(Vec<u8>),
    /// It is not.
    Other,
    /// There is nothing to check.
    Nothing(String),
}

impl Open {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let opening = match &self.check {
            Some(path) => {
                let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
                serde_json::from_slice(&text)
                    .with_context(|| format!("{} is not what `audit open --save` writes", path.display()))?
            }
            None => self.fetch().await?,
        };
        if let Some(path) = &self.save {
            write_new(path, &serde_json::to_vec_pretty(&opening)?)?;
        }
        let value = self.value.as_deref().map(std::fs::read).transpose();
        let value = value.context("the value's file cannot be read")?;
        let mut wrong = Vec::new();
        let mut told = Vec::new();
        for opened in &opening.fields {
            let name = opened.field;
            let (result, text) = match check(&opening, opened, value.as_deref())? {
                Checked::Proven(bytes) => ("proven", shown(name, &bytes)),
                Checked::Other => {
                    wrong.push(name.as_str());
                    ("wrong", "the value is not the one that the entry commits to".to_owned())
                }
                Checked::Nothing(why) => ("not opened", why),
            };
            if self.json {
                told.push(json!({"field": name, "result": result, "text": text, "salt": opened.salt,
                    "value": opened.value}));
            } else {
                say(format_args!("{name}: {result}: {text}"));
                if let Some(salt) = &opened.salt {
                    say(format_args!("  salt {salt}"));
                }
            }
        }
        if self.json {
            say_json(&json!({"index": opening.index, "fields": told}));
        }
        if wrong.is_empty() {
            Ok(())
        } else {
            bail!("not what entry {} commits to: {}", opening.index, wrong.join(", "))
        }
    }

    async fn fetch(&self) -> anyhow::Result<Opening> {
        let (profile, index) =
            self.profile.as_ref().zip(self.index).ok_or_else(|| anyhow!("--as and an index"))?;
        let client = AgencyClient::load(profile, Clock::system())?;
        let request = proto::OpenEntryRequest {
            context: Some(client.context(&self.purpose)),
            index,
            fields: self.fields.iter().map(|field| on_wire(*field).into()).collect(),
        };
        let answer = client.audit().open_entry(client.request(request, DEADLINE)).await;
        let answer = answer.map_err(|status| explain(&status))?.into_inner();
        let entry = answer.entry.ok_or_else(|| anyhow!("the gateway answered without an entry"))?;
        let removed = entry.removed.as_ref().map(super::removed_text).unwrap_or_default();
        let fields = self.fields.iter().zip(answer.fields).map(|(field, opened)| Opened {
            field: *field,
            salt: (!opened.salt.is_empty()).then(|| HEXLOWER.encode(&opened.salt)),
            why_not: why_not(opened.not_opened(), &removed),
            value: (opened.not_opened() == proto::NotOpened::Unspecified)
                .then(|| BASE64.encode(&opened.value)),
        });
        let fields = fields.collect();
        if !entry.entry.is_empty() {
            entry_json(&entry)?;
        }
        Ok(Opening { index, entry: String::from_utf8(entry.entry).context("an entry is not UTF-8")?, fields })
    }
}

/// Checks an opened field against the entry's own bytes; nothing that the gateway says about it is believed.
fn check(opening: &Opening, opened: &Opened, own: Option<&[u8]>) -> anyhow::Result<Checked> {
    let why_not = || Checked::Nothing(opened.why_not.clone().unwrap_or_else(|| "no value".to_owned()));
    let Some(salt) = &opened.salt else { return Ok(why_not()) };
    let salt = HEXLOWER.decode(salt.as_bytes()).context("a salt is not hex")?;
    let value = match (&opened.value, own) {
        (Some(value), _) => BASE64.decode(value.as_bytes()).context("a value is not base64")?,
        (None, Some(own)) => own.to_vec(),
        (None, None) => return Ok(why_not()),
    };
    let entry = Entry::from_json(opening.entry.as_bytes()).context("the entry is of another schema")?;
    let committed: Option<Commitment> = match opened.field {
        Field::OperatorName => entry.operator_name,
        Field::Subject => entry.subject_commitment,
        Field::Request => entry.request_commitment,
        Field::Response => entry.response_commitment,
    };
    let committed = committed.ok_or_else(|| anyhow!("the entry commits to no {}", opened.field))?;
    Ok(if commitment(&salt, &value) == committed { Checked::Proven(value) } else { Checked::Other })
}

fn shown(field: Field, value: &[u8]) -> String {
    match field {
        Field::OperatorName | Field::Subject => String::from_utf8_lossy(value).into_owned(),
        Field::Request | Field::Response => {
            format!("{} bytes, exactly those that the entry commits to; --save keeps them", value.len())
        }
    }
}

fn why_not(value: proto::NotOpened, removed: &str) -> Option<String> {
    match value {
        proto::NotOpened::Unspecified => None,
        proto::NotOpened::NotCommitted => Some("the entry commits to no such field".to_owned()),
        proto::NotOpened::Erased => Some(format!("its salt is gone: {removed}")),
        proto::NotOpened::Pruned => Some(format!("the entry is gone: {removed}")),
        proto::NotOpened::ValueNotKept => {
            Some("the gateway does not keep the value; check yours with --value FILE".to_owned())
        }
    }
}

fn field(text: &str) -> Result<Field, String> {
    let found = Field::ALL.iter().copied().find(|field| field.as_str() == text);
    found.ok_or_else(|| "operator_name, subject, request or response".to_owned())
}

fn on_wire(field: Field) -> proto::CommittedField {
    match field {
        Field::OperatorName => proto::CommittedField::OperatorName,
        Field::Subject => proto::CommittedField::Subject,
        Field::Request => proto::CommittedField::Request,
        Field::Response => proto::CommittedField::Response,
    }
}

/// What was opened is private: a new file, for its owner alone.
fn write_new(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let text = std::str::from_utf8(bytes).context("JSON is UTF-8")?;
    crate::identity::key_file::create(path, text)
        .with_context(|| format!("cannot make {}: it must not be there yet", path.display()))
}
