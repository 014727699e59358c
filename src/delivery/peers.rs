//! Connections to agencies' own servers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tonic::transport::Channel;

use super::breaker::{Breakers, UpstreamLimits};
use crate::access::AgencyEndpoint;
use crate::domain::agency::CreditCode;
use crate::identity::dialler::{DialError, Dialler, Endpoint};
use crate::telemetry::{Trace, Traces};

/// Tells whom is called which trace the call is part of.
pub(super) fn trace<M>(request: &mut tonic::Request<M>, trace: &Trace) {
    // Hex digits and hyphens are a header's value.
    if let Ok(value) = trace.traceparent().parse() {
        request.metadata_mut().insert("traceparent", value);
    }
}

/// Channels to agencies, opened when first needed and reopened by themselves. Callers do not share one: what a
/// caller does to its connection (stalls, resets) does not reach another's calls to the same agency. Cheap to clone.
#[derive(Clone)]
pub struct Peers {
    dialler: Dialler,
    traces: Traces,
    channels: Arc<Mutex<HashMap<Key, Channel>>>,
    breakers: Breakers,
}

/// On whose behalf, to whom, where.
type Key = (CreditCode, CreditCode, AgencyEndpoint);

impl Peers {
    /// Peers that are dialled with the gateway's own certificate.
    pub fn new(dialler: Dialler) -> Self {
        let breakers = Breakers::new(UpstreamLimits::default(), dialler.clock().clone());
        Self { dialler, traces: Traces::default(), channels: Arc::default(), breakers }
    }

    /// The same, asked within other limits.
    #[must_use]
    pub fn limited(self, limits: UpstreamLimits) -> Self {
        let breakers = Breakers::new(limits, self.dialler.clock().clone());
        Self { breakers, ..self }
    }

    /// The same, and calls to them are told of.
    #[must_use]
    pub fn traced(self, traces: Traces) -> Self {
        Self { traces, ..self }
    }

    /// The channel to an agency at an endpoint, on behalf of `caller`.
    ///
    /// # Errors
    /// When the endpoint is malformed.
    pub fn channel(
        &self,
        caller: CreditCode,
        agency: CreditCode,
        endpoint: &AgencyEndpoint,
    ) -> Result<Channel, DialError> {
        let key = (caller, agency, endpoint.clone());
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(&key) {
            return Ok(channel.clone());
        }
        let channel = self.dialler.channel(&dial(agency, endpoint))?;
        channels.insert(key, channel.clone());
        Ok(channel)
    }

    /// Forgets channels to agencies and endpoints that are not to be kept: calls on them come to their end, the next ones
    /// connect anew.
    pub fn retain(&self, keep: impl Fn(&CreditCode, &AgencyEndpoint) -> bool) {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.retain(|(_, agency, endpoint), _| keep(agency, endpoint));
    }

    /// Who is told of calls.
    pub fn traces(&self) -> &Traces {
        &self.traces
    }

    /// Who may be asked now.
    pub fn breakers(&self) -> &Breakers {
        &self.breakers
    }

    /// The dialler, for a connection outside the channels.
    pub fn dialler(&self) -> &Dialler {
        &self.dialler
    }
}

/// Where and whom to dial.
pub fn dial(agency: CreditCode, endpoint: &AgencyEndpoint) -> Endpoint {
    Endpoint { address: endpoint.address.clone(), server_name: endpoint.server_name.clone(), agency }
}
