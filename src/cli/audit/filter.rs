//! Which entries are wanted: the options that `audit list` and `audit export` share.

use clap::Args;

use crate::grpc::proto;

/// Which entries are wanted; what is left out does not narrow.
#[derive(Clone, Debug, Args)]
pub(super) struct FilterOptions {
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
}

impl FilterOptions {
    /// As the contract writes it.
    pub(super) fn on_wire(&self) -> proto::EntryFilter {
        proto::EntryFilter {
            recorded_from: self.from.map(crate::grpc::wire::timestamp),
            recorded_before: self.before.map(crate::grpc::wire::timestamp),
            caller: self.agency.clone(),
            counterpart: self.counterpart.clone(),
            method: self.method.clone(),
            exchange_id: self.exchange.clone(),
            matter_id: self.matter.clone(),
            phase: self.phase.clone(),
            code: self.code.clone(),
        }
    }
}
