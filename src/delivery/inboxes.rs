//! The way to an agency's inbox.

use std::future::Future;
use std::time::Duration;

use tonic::{Request, Status};

use super::peers::{self, Peers};
use crate::access::Agency;
use crate::grpc::proto;
use crate::grpc::proto::inbox_service_client::InboxServiceClient;
use crate::telemetry::Trace;

/// Takes a delivery to an agency's inbox. When, how often and what follows is the courier's; this is only the way there,
/// so that a test can put a network in its place that loses, doubles and delays.
pub trait Inboxes: Clone + Send + Sync + 'static {
    /// Hands a delivery over and waits at most `patience` for the answer. The recipient is told of `trace`.
    fn hand_over(
        &self,
        agency: &Agency,
        delivery: proto::Delivery,
        patience: Duration,
        trace: &Trace,
    ) -> impl Future<Output = Result<proto::DeliverResponse, NotTaken>> + Send;
}

/// Why there is no answer that says that the delivery was taken. The recipient may have it all the same.
#[derive(Debug)]
pub enum NotTaken {
    /// The agency cannot be dialled.
    NoWay,
    /// It, or the way to it, answered with a status.
    Refused(Status),
    /// No answer came in time.
    TimedOut,
}

impl Inboxes for Peers {
    async fn hand_over(
        &self,
        agency: &Agency,
        delivery: proto::Delivery,
        patience: Duration,
        trace: &Trace,
    ) -> Result<proto::DeliverResponse, NotTaken> {
        let endpoint = agency.endpoint.as_ref().ok_or(NotTaken::NoWay)?;
        let channel = self.channel(agency.code, agency.code, endpoint).map_err(|_| NotTaken::NoWay)?;
        let mut request = Request::new(proto::DeliverRequest { delivery: Some(delivery) });
        request.set_timeout(patience);
        peers::trace(&mut request, trace);
        let mut client = InboxServiceClient::new(channel);
        match tokio::time::timeout(patience, client.deliver(request)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(NotTaken::Refused(status)),
            Err(_) => Err(NotTaken::TimedOut),
        }
    }
}
