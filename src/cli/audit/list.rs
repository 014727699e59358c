//! `audit list`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};

use super::{Caller, DEADLINE, entry_json};
use crate::audit::entry::Entry;
use crate::cli::output::{explain, list, say, say_json};
use crate::client::AgencyClient;
use crate::clock::Clock;
use crate::grpc::proto;

/// Arguments of `audit list`.
#[derive(Debug, Args)]
pub(in crate::cli) struct List {
    #[command(flatten)]
    caller: Caller,
    /// Recorded at or after, such as 2026-11-22T08:00:00Z.
    #[arg(long)]
    from: Option<jiff::Timestamp>,
    /// Recorded before.
    #[arg(long)]
    before: Option<jiff::Timestamp>,
    /// Calling agency.
    #[arg(long, default_value = "")]
    agency: String,
    /// Counterpart agency.
    #[arg(long, default_value = "")]
    counterpart: String,
    /// Method, such as SubmitExchange.
    #[arg(long, default_value = "")]
    method: String,
    /// Exchange.
    #[arg(long, default_value = "")]
    exchange: String,
    /// Matter.
    #[arg(long, default_value = "")]
    matter: String,
    /// Phase: REQUEST, RESPONSE, READ, REFUSED, HANDSHAKE_REFUSED, INTERRUPTED or EVENT.
    #[arg(long, default_value = "")]
    phase: String,
    /// gRPC code, such as PERMISSION_DENIED.
    #[arg(long, default_value = "")]
    code: String,
    /// Unit of the operator.
    #[arg(long, default_value = "")]
    unit: String,
    /// Staff number of the operator.
    #[arg(long, default_value = "")]
    operator: String,
    /// Reason, such as NO_AGREEMENT.
    #[arg(long, default_value = "")]
    reason: String,
    /// Purpose code that the entries name; --purpose is the purpose of this search.
    #[arg(long, default_value = "")]
    purpose_code: String,
    /// Kind of the exchange or question, such as FEE_WAIVER.
    #[arg(long, default_value = "")]
    kind: String,
    /// Pseudonym of a person, as it stands in an entry.
    #[arg(long, default_value = "", conflicts_with = "person")]
    subject: String,
    /// A file with the document number of a person, or - for standard input: an argument would stand in the process
    /// list. Every pseudonym of the person is looked for.
    #[arg(long, value_name = "FILE")]
    person: Option<PathBuf>,
    /// Kind of that document, such as RESIDENT_ID or PASSPORT.
    #[arg(long, default_value = "RESIDENT_ID", requires = "person", value_parser = read_id_kind)]
    person_kind: i32,
    /// Delivery.
    #[arg(long, default_value = "")]
    delivery: String,
    /// Request id.
    #[arg(long, default_value = "")]
    request: String,
    /// The newest first.
    #[arg(long)]
    newest: bool,
    /// At most so many.
    #[arg(long, default_value_t = 50)]
    limit: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl List {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = AgencyClient::load(&self.caller.profile, Clock::system())?;
        let person = match &self.person {
            None => None,
            Some(file) => {
                let id_number = read_number(file)?;
                Some(proto::PersonFilter { id_kind: self.person_kind, id_number })
            }
        };
        let filter = proto::EntryFilter {
            recorded_from: self.from.map(crate::grpc::wire::timestamp),
            recorded_before: self.before.map(crate::grpc::wire::timestamp),
            caller: self.agency,
            counterpart: self.counterpart,
            method: self.method,
            exchange_id: self.exchange,
            matter_id: self.matter,
            phase: self.phase,
            code: self.code,
            unit: self.unit,
            operator: self.operator,
            reason: self.reason,
            purpose: self.purpose_code,
            kind: self.kind,
            subject: self.subject,
            person,
            delivery_id: self.delivery,
            request_id: self.request,
        };
        let mut entries = Vec::new();
        let mut page_token = String::new();
        loop {
            let left = self.limit.saturating_sub(entries.len());
            let request = proto::ListEntriesRequest {
                context: Some(client.context(&self.caller.purpose)),
                filter: Some(filter.clone()),
                page_size: i32::try_from(left.clamp(1, 500)).unwrap_or(500),
                page_token,
                newest_first: self.newest,
            };
            let page = client.audit().list_entries(client.request(request, DEADLINE)).await;
            let page = page.map_err(|status| explain(&status))?.into_inner();
            entries.extend(page.entries);
            page_token = page.next_page_token;
            if page_token.is_empty() || entries.len() >= self.limit {
                break;
            }
        }
        entries.truncate(self.limit);
        if self.json {
            let entries: Vec<Value> = entries.iter().map(entry_json).collect::<Result<_, _>>()?;
            say_json(&json!({"entries": entries, "more": !page_token.is_empty()}));
            return Ok(());
        }
        let mut rows =
            list(&["index", "recorded", "phase", "method", "caller", "counterpart", "code", "reason"]);
        for stored in &entries {
            if stored.entry.is_empty() {
                rows.add_row([stored.index.to_string(), "pruned, see `audit show`".to_owned()]);
                continue;
            }
            let entry =
                Entry::from_json(&stored.entry).context("the gateway sent an entry of another schema")?;
            rows.add_row([
                stored.index.to_string(),
                format!("{:.3}", entry.recorded),
                entry.phase.as_str().to_owned(),
                entry.method.into_owned(),
                entry.caller.unwrap_or_default(),
                entry.counterpart.unwrap_or_default(),
                entry.code.unwrap_or_default().into_owned(),
                entry.reason.unwrap_or_default().into_owned(),
            ]);
        }
        say(rows);
        if !page_token.is_empty() {
            say("there are more; raise --limit or narrow the filter");
        }
        Ok(())
    }
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
