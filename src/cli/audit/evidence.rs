//! The evidence of one exchange: `audit export --exchange`, and what `audit verify` says of it.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::ValueEnum;
use data_encoding::{BASE64, HEXLOWER};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tonic::Code;

use super::Caller;
use crate::audit::bundle::container::{self, is_container};
use crate::audit::bundle::{
    Disclosure, Evidence, OpenedField, ProvenEntry, Removed, Report, Sentence, Wanted, verify,
};
use crate::audit::merkle::Hash;
use crate::audit::note::VerifyingKey;
use crate::cli::output::{explain, say, say_json};
use crate::client::AgencyClient;
use crate::clock::Clock;
use crate::grpc::proto;
use crate::grpc::proto::export_evidence_response::Piece;

/// How long an export may take.
const DEADLINE: Duration = Duration::from_secs(600);

/// The language of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Language {
    /// Chinese.
    Zh,
    /// English.
    En,
}

/// A field that entries commit to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Committed {
    /// The operator's name.
    OperatorName,
    /// The person's document.
    Subject,
    /// The request's bytes.
    Request,
    /// The answer's bytes.
    Response,
}

impl Committed {
    fn name(self) -> &'static str {
        match self {
            Self::OperatorName => "operator_name",
            Self::Subject => "subject",
            Self::Request => "request",
            Self::Response => "response",
        }
    }

    fn on_wire(self) -> proto::CommittedField {
        match self {
            Self::OperatorName => proto::CommittedField::OperatorName,
            Self::Subject => proto::CommittedField::Subject,
            Self::Request => proto::CommittedField::Request,
            Self::Response => proto::CommittedField::Response,
        }
    }
}

/// Writes the evidence of an exchange to a file that is not there yet.
pub(super) async fn export(
    caller: &Caller,
    exchange: &str,
    disclose: &[Committed],
    out: &Path,
    as_json: bool,
) -> anyhow::Result<()> {
    let client = AgencyClient::load(&caller.profile, Clock::system())?;
    // Before it is asked for: an export is an entry.
    if out.exists() {
        bail!("{} is there already (nothing is overwritten)", out.display());
    }
    let mut evidence = fetch(&client, &caller.purpose, exchange).await?;
    if !disclose.is_empty() {
        evidence.disclosures = open(&client, &caller.purpose, &evidence, disclose).await?;
    }
    let bytes = evidence.to_zip().context("the gateway's evidence cannot be packed")?;
    let file = OpenOptions::new().write(true).create_new(true).open(out);
    let mut file = file.with_context(|| format!("cannot make {} (nothing is overwritten)", out.display()))?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    let (entries, withheld) = (evidence.entries.len(), evidence.withheld);
    if as_json {
        say_json(&json!({"file": out, "exchange": exchange, "entries": entries, "withheld": withheld}));
        return Ok(());
    }
    let path = out.display();
    say(format_args!("{entries} entries of exchange {exchange}, each with its proof, in {path}"));
    if withheld > 0 {
        say(format_args!("{withheld} more are of others' calls; an auditor can export them"));
    }
    say(format_args!("verify: legal-aid-gateway audit verify {path} --key KEY"));
    Ok(())
}

async fn fetch(client: &AgencyClient, purpose: &str, exchange: &str) -> anyhow::Result<Evidence> {
    let request = proto::ExportEvidenceRequest {
        context: Some(client.context(purpose)),
        exchange_id: exchange.to_owned(),
    };
    let answer = client.audit().export_evidence(client.request(request, DEADLINE)).await;
    let mut pieces = answer.map_err(|status| explain(&status))?.into_inner();
    let first = pieces.message().await.map_err(|status| explain(&status))?;
    let Some(Piece::Head(head)) = first.and_then(|first| first.piece) else {
        bail!("the gateway's evidence has no head");
    };
    let mut evidence = Evidence {
        exchange: exchange.trim().parse().context("an exchange is named by a UUID")?,
        checkpoint: head.checkpoint,
        made_at: client.now(),
        asked_by: client.profile().agency.to_string(),
        withheld: head.withheld,
        agencies: head.agencies.into_iter().map(|agency| (agency.code, agency.name)).collect(),
        entries: Vec::new(),
        disclosures: Vec::new(),
    };
    let bar = bar(head.entries);
    while let Some(message) = pieces.message().await.map_err(|status| explain(&status))? {
        let Some(Piece::Entry(entry)) = message.piece else { continue };
        evidence.entries.push(ProvenEntry {
            index: entry.index,
            entry: String::from_utf8(entry.entry).context("an entry is not UTF-8")?,
            hashes: entry
                .hashes
                .iter()
                .map(|hash| Hash::from_slice(hash))
                .collect::<Result<_, _>>()
                .context("a proof cannot be read")?,
        });
        bar.inc(1);
    }
    bar.finish_and_clear();
    // Broken off without a word, it would look whole.
    if evidence.entries.len() as u64 != head.entries {
        bail!("{} of {} entries came; try again", evidence.entries.len(), head.entries);
    }
    Ok(evidence)
}

/// Opens fields of the entries, as far as the caller may; each opening is an entry of the log.
async fn open(
    client: &AgencyClient,
    purpose: &str,
    evidence: &Evidence,
    disclose: &[Committed],
) -> anyhow::Result<Vec<Disclosure>> {
    let mut disclosures = Vec::new();
    let bar = bar(evidence.entries.len() as u64);
    for ProvenEntry { index, .. } in &evidence.entries {
        let request = proto::OpenEntryRequest {
            context: Some(client.context(purpose)),
            index: *index,
            fields: disclose.iter().map(|field| field.on_wire().into()).collect(),
        };
        bar.inc(1);
        let answer = match client.audit().open_entry(client.request(request, DEADLINE)).await {
            Ok(answer) => answer.into_inner(),
            // The entry is the caller's to see, and what it commits to is not.
            Err(status) if status.code() == Code::NotFound => continue,
            Err(status) => return Err(explain(&status)),
        };
        let fields = answer.fields.iter().zip(disclose).filter_map(opened).collect::<Vec<_>>();
        if fields.is_empty() {
            continue;
        }
        let removed = answer.entry.and_then(|entry| entry.removed).and_then(|removed| {
            let at = removed.remove_time?;
            let at = jiff::Timestamp::new(at.seconds, at.nanos).ok()?;
            Some(Removed { at, by: removed.agency })
        });
        disclosures.push(Disclosure { fields, index: index.to_string(), removed });
    }
    bar.finish_and_clear();
    Ok(disclosures)
}

/// A field as opened; `None` where the entry commits to none.
fn opened((answer, field): (&proto::OpenedField, &Committed)) -> Option<OpenedField> {
    let absent = match answer.not_opened() {
        proto::NotOpened::NotCommitted => return None,
        proto::NotOpened::Unspecified => None,
        why => Some(why.as_str_name().trim_start_matches("NOT_OPENED_").to_owned()),
    };
    let has_value = absent.is_none();
    Some(OpenedField {
        absent,
        field: field.name().to_owned(),
        salt: (!answer.salt.is_empty()).then(|| HEXLOWER.encode(&answer.salt)),
        value: has_value.then(|| BASE64.encode(&answer.value)),
    })
}

/// A bar on standard error; hidden where that is no terminal.
fn bar(entries: u64) -> ProgressBar {
    let bar = ProgressBar::new(entries);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} entries {eta}") {
        bar.set_style(style);
    }
    bar
}

/// The bytes of a bundle, or `None` if the file is something else.
pub(super) fn read_bundle(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    if path.is_dir() {
        return Ok(None);
    }
    let cannot_read = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(cannot_read)?.take(container::MOST_BYTES as u64 + 1);
    let mut bytes = Vec::new();
    file.by_ref().take(4).read_to_end(&mut bytes).with_context(cannot_read)?;
    // By its name too: a bundle whose first bytes are damaged is to be called a damaged bundle.
    if !is_container(&bytes) && path.extension().is_none_or(|ending| ending != "zip") {
        return Ok(None);
    }
    file.read_to_end(&mut bytes).with_context(cannot_read)?;
    Ok(Some(bytes))
}

/// Checks a bundle and says what it proves. An error unless all holds.
pub(super) fn verify_bundle(
    bundle: &[u8],
    key: &VerifyingKey,
    wanted: &Wanted,
    language: Language,
    as_json: bool,
) -> anyhow::Result<()> {
    let report = verify(bundle, key, wanted);
    if as_json {
        say_report_as_json(&report);
    } else {
        say_report(&report, language);
    }
    if report.is_sound() {
        Ok(())
    } else {
        let count = report.wrong.len();
        Err(anyhow!(
            "the bundle does not hold: {count} fault(s); rely on nothing in it, and ask for it again"
        ))
    }
}

fn say_report(report: &Report, language: Language) {
    let titles = match language {
        Language::Zh => ["交换", "已证明", "请注意", "错误", "未证明", "全部成立"],
        Language::En => ["exchange", "proven", "note", "WRONG", "not proven", "all of it holds"],
    };
    let [exchange, proven, remarks, wrong, not_proven, sound] = titles;
    if let Some(id) = report.exchange {
        say(format_args!("{exchange}: {id}"));
    }
    for (title, sentences) in [
        (proven, &report.proven),
        (remarks, &report.remarks),
        (wrong, &report.wrong),
        (not_proven, &report.not_proven),
    ] {
        if !sentences.is_empty() {
            say(format_args!("{title}:"));
        }
        for Sentence { en, zh } in sentences {
            say(format_args!("  - {}", if language == Language::Zh { zh } else { en }));
        }
    }
    if report.is_sound() {
        say(sound);
    }
}

fn say_report_as_json(report: &Report) {
    let said = |sentences: &[Sentence]| -> Vec<_> {
        sentences.iter().map(|said| json!({"en": said.en, "zh": said.zh})).collect()
    };
    let witnesses: Vec<_> =
        report.witnesses.iter().map(|signed| json!({"witness": signed.witness, "at": signed.at})).collect();
    let checkpoint = report.checkpoint.as_ref();
    say_json(&json!({
        "sound": report.is_sound(),
        "exchange": report.exchange,
        "origin": checkpoint.map(|checkpoint| &checkpoint.origin),
        "size": checkpoint.map(|checkpoint| checkpoint.size),
        "root": checkpoint.map(|checkpoint| checkpoint.root.to_base64()),
        "entries": report.entries,
        "opened": report.opened,
        "witnesses": witnesses,
        "proven": said(&report.proven),
        "remarks": said(&report.remarks),
        "wrong": said(&report.wrong),
        "not_proven": said(&report.not_proven),
    }));
}
