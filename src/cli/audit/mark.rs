//! `audit mark`.

use clap::{ArgGroup, Args};
use serde_json::json;

use super::{Caller, DEADLINE};
use crate::cli::output::{explain_request, say, say_json};
use crate::client::AgencyClient;
use crate::clock::Clock;
use crate::grpc::proto;

/// Arguments of `audit mark`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("verdict").required(true))]
pub(in crate::cli) struct MarkCommand {
    #[command(flatten)]
    caller: Caller,
    /// The finding, as `audit findings` names it.
    #[arg(value_name = "FINDING")]
    finding: String,
    /// It has an ordinary explanation.
    #[arg(long, group = "verdict")]
    normal: bool,
    /// It is an incident.
    #[arg(long, group = "verdict")]
    incident: bool,
    /// Why. It is sealed: the log holds no more of it than a commitment.
    #[arg(long, value_name = "TEXT")]
    comment: String,
    /// Request id, to try again without marking twice.
    #[arg(long, value_name = "UUID")]
    request_id: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl MarkCommand {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = AgencyClient::load(&self.caller.profile, Clock::system())?;
        let mut context = client.context(&self.caller.purpose);
        if let Some(request_id) = self.request_id {
            context.request_id = request_id;
        }
        let request_id = context.request_id.clone();
        let kind =
            if self.normal { proto::FindingMarkKind::Normal } else { proto::FindingMarkKind::Incident };
        let request = proto::MarkFindingRequest {
            context: Some(context),
            finding_id: self.finding,
            mark: kind.into(),
            comment: self.comment,
        };
        let marked = client.audit().mark_finding(client.request(request, DEADLINE)).await;
        let marked = marked.map_err(|status| explain_request(&status, &request_id))?.into_inner();
        let index = marked.audit.map(|receipt| receipt.log_index);
        let word = if self.normal { "normal" } else { "incident" };
        if self.json {
            say_json(&json!({"finding": marked.finding_id, "mark": word, "log_index": index}));
        } else {
            let index = index.map(|index| format!(", audit log index {index}")).unwrap_or_default();
            say(format_args!("{} is marked {word}{index}", marked.finding_id));
        }
        Ok(())
    }
}
