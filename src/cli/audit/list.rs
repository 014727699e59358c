//! `audit list`.

use std::num::NonZeroUsize;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};

use super::filter::FilterOptions;
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
    #[command(flatten)]
    filter: FilterOptions,
    /// The newest first.
    #[arg(long)]
    newest: bool,
    /// At most so many.
    #[arg(long, default_value = "50")]
    limit: NonZeroUsize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl List {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = AgencyClient::load(&self.caller.profile, Clock::system())?;
        let filter = self.filter.on_wire()?;
        let limit = self.limit.get();
        let mut entries = Vec::new();
        let mut page_token = String::new();
        loop {
            let left = limit.saturating_sub(entries.len());
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
            if page_token.is_empty() || entries.len() >= limit {
                break;
            }
        }
        entries.truncate(limit);
        if self.json {
            let entries: Vec<Value> = entries.iter().map(entry_json).collect::<Result<_, _>>()?;
            say_json(&json!({"entries": entries, "more": !page_token.is_empty()}));
            return Ok(());
        }
        if entries.is_empty() {
            say("no entry of the log fits");
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
