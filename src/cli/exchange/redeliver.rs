//! `exchange redeliver`: what was given up is delivered again.

use clap::{Args, ValueEnum};

use crate::cli::deliveries::{DEADLINE, Operator, show};
use crate::cli::output::{explain_request, say, say_json};
use crate::grpc::json::to_json;
use crate::grpc::proto;

/// Arguments of `exchange redeliver`.
#[derive(Debug, Args)]
#[command(after_help = "\
Every message of the exchange that was given up becomes due at once and is tried anew for as long as at first; an
UNDELIVERABLE exchange is SUBMITTED again, and its clocks start anew. `deliveries list --state dead` shows what was given up.")]
pub(in crate::cli) struct Redeliver {
    #[command(flatten)]
    operator: Operator,
    /// The exchange.
    exchange_id: String,
    /// Why; it stands in the audit log.
    #[arg(long, value_enum)]
    reason: Reason,
    /// Request id of an earlier try: if that had effect, its answer comes again and nothing happens twice.
    #[arg(long, value_name = "UUID")]
    request_id: Option<String>,
}

/// Why an exchange is delivered again.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Reason {
    /// The recipient's system can be reached again.
    RecipientBack,
    /// Its address, or how it takes deliveries, was wrong in the directory.
    EndpointCorrected,
    /// The recipient asked for it.
    AskedByRecipient,
    /// The sender asked for it.
    AskedBySender,
}

impl Reason {
    fn on_wire(self) -> proto::RedeliveryReason {
        match self {
            Self::RecipientBack => proto::RedeliveryReason::RecipientBack,
            Self::EndpointCorrected => proto::RedeliveryReason::EndpointCorrected,
            Self::AskedByRecipient => proto::RedeliveryReason::AskedByRecipient,
            Self::AskedBySender => proto::RedeliveryReason::AskedBySender,
        }
    }
}

impl Redeliver {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = self.operator.client()?;
        let context = self.operator.context(&client, self.request_id);
        let request_id = context.request_id.clone();
        let request = proto::RedeliverExchangeRequest {
            context: Some(context),
            exchange_id: self.exchange_id,
            reason: self.reason.on_wire().into(),
        };
        let answer = client.exchanges().redeliver_exchange(client.request(request, DEADLINE)).await;
        let answer = answer.map_err(|status| explain_request(&status, &request_id))?.into_inner();
        if self.operator.json {
            say_json(&to_json("RedeliverExchangeResponse", &answer)?);
            return Ok(());
        }
        show(client.now(), answer.deliveries.iter());
        say(format_args!("audit log index {}", answer.audit.map_or(0, |audit| audit.log_index)));
        Ok(())
    }
}
