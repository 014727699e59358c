//! The configuration in the terms of the parts that it is for.

use crate::config::Config;
use crate::delivery::courier::Schedule;
use crate::delivery::enquirer::Patience;
use crate::grpc::CallLimits;
use crate::identity::acceptor::AcceptorLimits;
use crate::identity::server::HttpLimits;

pub(super) fn acceptor_limits(config: &Config) -> AcceptorLimits {
    let limits = &config.limits;
    AcceptorLimits {
        handshake_timeout: limits.handshake,
        first_byte_timeout: limits.first_byte,
        pending_handshakes: limits.pending_handshakes,
        pending_per_address: limits.pending_handshakes_per_address,
    }
}

pub(super) fn http_limits(config: &Config) -> HttpLimits {
    HttpLimits {
        max_connection_age: config.limits.connection_age,
        drain_timeout: config.limits.drain,
        ..HttpLimits::default()
    }
}

pub(super) fn call_limits(config: &Config) -> CallLimits {
    let limits = &config.limits;
    CallLimits {
        calls: limits.calls,
        calls_per_agency: limits.calls_per_agency,
        default_deadline: limits.default_deadline,
        longest_deadline: limits.longest_deadline,
        longest_stream: limits.longest_stream,
        stream_idle: limits.stream_idle,
    }
}

pub(super) fn schedule(config: &Config) -> Schedule {
    let delivery = &config.delivery;
    Schedule {
        attempt: delivery.attempt,
        lease: delivery.lease,
        first_retry: delivery.first_retry,
        longest_retry: delivery.longest_retry,
        give_up_after: delivery.give_up_after,
        per_recipient: delivery.per_recipient,
    }
}

pub(super) fn patience(config: &Config) -> Patience {
    let verification = &config.verification;
    Patience {
        attempt: verification.attempt,
        first_retry: verification.first_retry,
        longest_retry: verification.longest_retry,
        give_up_after: verification.give_up_after,
        at_once: verification.at_once,
    }
}
