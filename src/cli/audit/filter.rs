//! Which entries are wanted: the options that `audit list` and `audit export` share.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use crate::domain::calendar::SHANGHAI;
use crate::grpc::proto;

/// Which entries are wanted; what is left out does not narrow.
#[derive(Clone, Debug, Args)]
pub(super) struct FilterOptions {
    /// Recorded at or after: a time such as 2026-11-22T08:00:00+08:00, or a day, from its start in Asia/Shanghai.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    from: Option<jiff::Timestamp>,
    /// Recorded before: a time or a day, like --from; the day itself is left out.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    before: Option<jiff::Timestamp>,
    /// Calling agency (credit code).
    #[arg(long, visible_alias = "caller", default_value = "", hide_default_value = true)]
    agency: String,
    /// Agency that was asked or written to (credit code).
    #[arg(long, default_value = "", hide_default_value = true)]
    counterpart: String,
    /// Method, such as SubmitExchange.
    #[arg(long, default_value = "", hide_default_value = true)]
    method: String,
    /// Id of an exchange.
    #[arg(long, default_value = "", hide_default_value = true)]
    exchange: String,
    /// Matter id.
    #[arg(long, default_value = "", hide_default_value = true)]
    matter: String,
    /// Phase: REQUEST, RESPONSE, READ, REFUSED, HANDSHAKE_REFUSED, INTERRUPTED or EVENT.
    #[arg(long, default_value = "", hide_default_value = true)]
    phase: String,
    /// gRPC code, such as PERMISSION_DENIED.
    #[arg(long, default_value = "", hide_default_value = true)]
    code: String,
    /// Unit of the operator.
    #[arg(long, default_value = "", hide_default_value = true)]
    unit: String,
    /// Staff number of the operator.
    #[arg(long, default_value = "", hide_default_value = true)]
    operator: String,
    /// Reason, such as NO_AGREEMENT.
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    /// Purpose code that the entries name; --purpose is the purpose of this search.
    #[arg(long, default_value = "", hide_default_value = true)]
    purpose_code: String,
    /// Kind of the exchange or question, such as FEE_WAIVER.
    #[arg(long, default_value = "", hide_default_value = true)]
    kind: String,
    /// Pseudonym of a person, as it stands in an entry.
    #[arg(long, default_value = "", hide_default_value = true, conflicts_with = "person")]
    subject: String,
    /// A file with the document number of a person, or - for standard input: an argument would stand in the process
    /// list. Every pseudonym of the person is looked for.
    #[arg(long, value_name = "FILE")]
    person: Option<PathBuf>,
    /// Kind of that document, such as RESIDENT_ID or PASSPORT.
    #[arg(long, default_value = "RESIDENT_ID", requires = "person", value_parser = read_id_kind)]
    person_kind: i32,
    /// Id of a delivery.
    #[arg(long, default_value = "", hide_default_value = true)]
    delivery: String,
    /// Request id.
    #[arg(long, default_value = "", hide_default_value = true)]
    request: String,
}

impl FilterOptions {
    /// As the contract writes it.
    ///
    /// # Errors
    /// When the file with a person's number cannot be read.
    pub(super) fn on_wire(&self) -> anyhow::Result<proto::EntryFilter> {
        let person = match &self.person {
            None => None,
            Some(file) => {
                let id_number = read_number(file)?;
                Some(proto::PersonFilter { id_kind: self.person_kind, id_number })
            }
        };
        Ok(proto::EntryFilter {
            recorded_from: self.from.map(crate::grpc::wire::timestamp),
            recorded_before: self.before.map(crate::grpc::wire::timestamp),
            caller: self.agency.clone(),
            counterpart: self.counterpart.clone(),
            method: self.method.clone(),
            exchange_id: self.exchange.clone(),
            matter_id: self.matter.clone(),
            phase: self.phase.clone(),
            code: self.code.clone(),
            unit: self.unit.clone(),
            operator: self.operator.clone(),
            reason: self.reason.clone(),
            purpose: self.purpose_code.clone(),
            kind: self.kind.clone(),
            subject: self.subject.clone(),
            person,
            delivery_id: self.delivery.clone(),
            request_id: self.request.clone(),
        })
    }
}

/// A time, or a day: its start in Asia/Shanghai.
pub(super) fn moment(text: &str) -> Result<jiff::Timestamp, String> {
    let at = text.parse().ok().or_else(|| {
        let day: jiff::civil::Date = text.parse().ok()?;
        SHANGHAI.to_timestamp(day.at(0, 0, 0, 0)).ok()
    });
    at.ok_or_else(|| {
        "a time with its offset, such as 2026-11-22T08:00:00+08:00, or a day, such as 2026-11-22".to_owned()
    })
}

fn read_id_kind(text: &str) -> Result<i32, String> {
    let kind = proto::IdKind::from_str_name(&format!("ID_KIND_{}", text.to_uppercase()));
    kind.map(i32::from).filter(|kind| *kind != 0).ok_or_else(|| {
        "one of RESIDENT_ID, MILITARY, PASSPORT, RESIDENCE_PERMIT, HONG_KONG_MACAU_PERMIT, TAIWAN_PERMIT, \
         FOREIGN_PERMANENT_RESIDENT"
            .to_owned()
    })
}

/// Reads a document number from a file or from standard input.
fn read_number(file: &Path) -> anyhow::Result<String> {
    let text = if file == Path::new("-") {
        std::io::read_to_string(std::io::stdin()).context("cannot read standard input")?
    } else {
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?
    };
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::moment;

    #[test]
    fn a_day_begins_at_midnight_in_shanghai_and_a_time_is_taken_as_it_stands() {
        assert_eq!(moment("2026-11-22"), moment("2026-11-21T16:00:00Z"));
        assert_eq!(moment("2026-11-22T08:00:00+08:00"), moment("2026-11-22T00:00:00Z"));
        for wrong in ["", "yesterday", "2026-11-31", "2026-13-01", "22/11/2026", "2026-11"] {
            assert!(moment(wrong).unwrap_err().contains("such as"), "{wrong}");
        }
    }
}
