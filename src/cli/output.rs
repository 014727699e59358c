//! How results and refusals are shown.

use std::fmt::Write as _;
use std::io::IsTerminal as _;

use anyhow::anyhow;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{ContentArrangement, Table};
use tonic::Status;
use tonic_types::{ErrorDetail, StatusExt as _};

/// Width of tables that do not go to a terminal.
const WIDTH: u16 = 120;

/// The TLS alert by which a gateway turns away an agency that is not enrolled.
pub(super) const ACCESS_DENIED: &str = "AccessDenied";

/// A table with a head.
pub(super) fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    if !std::io::stdout().is_terminal() {
        table.set_width(WIDTH);
    }
    table
        .load_style(UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(head);
    table
}

/// A table whose cells are never broken: ids in it can be copied.
pub(super) fn list(head: &[&str]) -> Table {
    let mut table = table(head);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table
}

/// Prints a line, and does not mind a reader that has seen enough.
pub(super) fn say(text: impl std::fmt::Display) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Prints JSON for programs.
pub(super) fn say_json(value: &serde_json::Value) {
    say(format_args!("{value:#}"));
}

/// What the gateway's refusal says, for the person at the keyboard.
pub(super) fn explain(status: &Status) -> anyhow::Error {
    let details = status.get_error_details();
    let mut text = format!("{:?}: {}", status.code(), status.message());
    if let Some(info) = details.error_info() {
        let _ = write!(text, "\n  reason: {}", info.reason);
        if let Some(index) = info.metadata.get("log_index") {
            let _ = write!(text, "\n  audit log index: {index}");
        }
    }
    let localized = status.get_error_details_vec().into_iter().find_map(|detail| match detail {
        ErrorDetail::LocalizedMessage(told) if told.locale == "zh-CN" => Some(told.message),
        _ => None,
    });
    if let Some(chinese) = localized {
        let _ = write!(text, "\n  {chinese}");
    }
    for violation in details.bad_request().map(|bad| bad.field_violations.as_slice()).unwrap_or_default() {
        let _ = write!(text, "\n  {}: {} [{}]", violation.field, violation.description, violation.reason);
        if let Some(chinese) = &violation.localized_message {
            let _ = write!(text, "\n      {}", chinese.message);
        }
    }
    if let Some(hint) = details.error_info().and_then(|info| hint(&info.reason)) {
        let _ = write!(text, "\n  {hint}");
    }
    if let Some(delay) = details.retry_info().and_then(|retry| retry.retry_delay) {
        let _ = write!(text, "\n  try again in {delay:?}");
    }
    let mut source = std::error::Error::source(status);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            let _ = write!(text, "\n  because: {cause_text}");
        }
        source = cause.source();
    }
    if details.error_info().is_none() {
        let hint = if text.contains(ACCESS_DENIED) {
            "the gateway knows this certificate's authority but does not admit its agency: it must be enrolled and \
             active in the gateway's directory.toml"
        } else {
            "is the gateway running at the profile's address? `legal-aid-gateway doctor --profile FILE` checks"
        };
        let _ = write!(text, "\n  {hint}");
    }
    anyhow!(text)
}

/// What the person at the keyboard can do about a refusal, where that is not plain from its text.
fn hint(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "PURPOSE_NOT_AGREED" => {
            "--purpose takes the purpose of the agreement, such as COOPERATION; a submitted file names it in its envelope"
        }
        "NO_AGREEMENT" => "the gateway's operator puts agreements in: `agreement put`, or directory.toml",
        "KEY_NOT_ENROLLED" => {
            "`cert show` prints the key's SHA-256, which the operator lists under certificates"
        }
        "NOT_FOUND" => "check the id and --purpose; an agency sees only what it is party to",
        _ => return None,
    })
}

/// Whether a call that failed so may have had effect, or may succeed as it stands.
pub(super) fn is_open(status: &Status) -> bool {
    use tonic::Code;
    matches!(
        status.code(),
        Code::Unavailable
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::Cancelled
            | Code::Internal
    )
}

/// The same for a call with effect: who tries again must do so under the same request id.
pub(super) fn explain_request(status: &Status, request_id: &str) -> anyhow::Error {
    let error = explain(status);
    if is_open(status) {
        anyhow!(
            "{error}\n  to try again without doing it twice: the same command with --request-id {request_id}"
        )
    } else {
        error
    }
}
