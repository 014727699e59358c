//! CSV for spreadsheets (RFC 4180): UTF-8 with a byte order mark, without which Excel in China reads GBK, and CRLF.

use anyhow::Context as _;
use csv::{Terminator, WriterBuilder};
use jiff::Timestamp;

use super::records::Record;
use crate::audit::entry::{AgreementChange, Decision, Entry};
use crate::domain::calendar::SHANGHAI;

const BYTE_ORDER_MARK: &str = "\u{feff}";

/// Columns, in their order.
const COLUMNS: [&str; 32] = [
    "index",
    "entry_id",
    "recorded_shanghai",
    "occurred_shanghai",
    "phase",
    "service",
    "method",
    "caller",
    "unit",
    "operator",
    "counterpart",
    "purpose",
    "legal_basis",
    "agreement",
    "agreement_change",
    "considered",
    "decision",
    "request_id",
    "exchange",
    "delivery",
    "matter",
    "finding",
    "subject",
    "code",
    "reason",
    "request_index",
    "duration_us",
    "items",
    "withheld",
    "node",
    "trace",
    "leaf_hash",
];

/// The byte order mark and the row of names.
pub(super) fn head() -> anyhow::Result<Vec<u8>> {
    let mut head = BYTE_ORDER_MARK.as_bytes().to_vec();
    head.extend(line(&COLUMNS.map(str::to_owned))?);
    Ok(head)
}

/// The row of an entry. A row is always one line: control characters become spaces.
pub(super) fn row(record: &Record<'_>) -> anyhow::Result<Vec<u8>> {
    let entry = &record.entry;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let id = |value: Option<uuid::Uuid>| value.map(|id| id.to_string()).unwrap_or_default();
    let number = |value: Option<u64>| value.map(|number| number.to_string()).unwrap_or_default();
    let cells = [
        record.index.to_string(),
        entry.id.to_string(),
        shanghai(entry.recorded),
        shanghai(entry.occurred),
        entry.phase.as_str().to_owned(),
        entry.service.to_string(),
        entry.method.to_string(),
        text(&entry.caller),
        text(&entry.unit),
        text(&entry.operator),
        text(&entry.counterpart),
        text(&entry.purpose),
        entry.legal_basis.join("；"),
        agreement(entry),
        entry.agreement_change.as_deref().map(change).unwrap_or_default(),
        entry.considered.join("；"),
        decision(entry).to_owned(),
        id(entry.request),
        id(entry.exchange),
        id(entry.delivery),
        text(&entry.matter),
        id(entry.finding),
        text(&entry.subject),
        entry.code.as_deref().unwrap_or_default().to_owned(),
        entry.reason.as_deref().unwrap_or_default().to_owned(),
        number(entry.request_index),
        number(entry.duration_us),
        number(entry.items),
        entry.withheld.join("；"),
        entry.node.clone(),
        text(&entry.trace),
        record.leaf_hash.clone(),
    ];
    line(&cells.map(|cell| harmless(&cell)))
}

fn agreement(entry: &Entry) -> String {
    entry.agreement.as_ref().map(|named| format!("{} v{}", named.id, named.version)).unwrap_or_default()
}

fn change(change: &AgreementChange) -> String {
    let AgreementChange { act, id, version, state, sha256, .. } = change;
    format!("{act} {id} v{version} {state} {sha256}")
}

fn decision(entry: &Entry) -> &'static str {
    match entry.decision {
        Some(Decision::Allow) => "ALLOW",
        Some(Decision::Deny) => "DENY",
        None => "",
    }
}

/// Date and time as Excel reads them; to the microsecond, which it shows when told to.
fn shanghai(at: Timestamp) -> String {
    SHANGHAI.to_datetime(at).strftime("%Y-%m-%d %H:%M:%S.%6f").to_string()
}

/// A cell that a spreadsheet takes as it stands. An apostrophe goes before what it would run as a formula, and before
/// what it would turn into a number and so spoil: more digits than it keeps, or digits with an E among them.
fn harmless(cell: &str) -> String {
    let cell: String = cell.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let is_formula = cell.starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠']);
    let is_number = cell.chars().all(|c| c.is_ascii_digit() || matches!(c, 'e' | 'E'))
        && (cell.len() > 15 || cell.contains(['e', 'E']))
        && cell.starts_with(|c: char| c.is_ascii_digit());
    if is_formula || is_number { format!("'{cell}") } else { cell }
}

fn line(cells: &[String]) -> anyhow::Result<Vec<u8>> {
    let mut writer = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(Vec::new());
    writer.write_record(cells)?;
    writer.into_inner().map_err(csv::IntoInnerError::into_error).context("a row cannot be written")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_spreadsheet_would_run_or_spoil_is_kept_as_text() {
        for dangerous in ["=1+1", "+1", "-1", "@SUM(A1)", "＝1", "1234567890123456", "12e5", "1234E567890"] {
            assert_eq!(harmless(dangerous), format!("'{dangerous}"));
        }
        for plain in ["", "LQ-2026-0001", "123456789012345", "12a5", "e5", "法律援助法 41", "b1-01"] {
            assert_eq!(harmless(plain), plain);
        }
        assert_eq!(harmless("\t=1"), " =1");
        assert_eq!(harmless("a\r\nb"), "a  b");
    }

    #[test]
    fn the_head_begins_with_the_byte_order_mark_and_ends_with_crlf() {
        let head = head().unwrap();
        assert!(head.starts_with(&[0xef, 0xbb, 0xbf]) && head.ends_with(b"leaf_hash\r\n"));
    }
}
