//! The configuration in the terms of the parts that it is for.

use super::handles::Handles;
use crate::config::Config;
use crate::delivery::breaker::UpstreamLimits;
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
        pending_handshakes: limits.pending_handshakes.min(Handles::of_this_process().pending),
        pending_per_address: limits.pending_handshakes_per_address,
    }
}

pub(super) fn http_limits(config: &Config) -> HttpLimits {
    let (limits, door) = (&config.limits, &config.front_door);
    let handles = Handles::of_this_process();
    if handles.open < door.connections {
        tracing::warn!(
            configured = door.connections,
            possible = handles.open,
            "there are not enough file handles for front_door.connections: raise the limit of open files (ulimit -n, LimitNOFILE)"
        );
    }
    HttpLimits {
        max_concurrent_streams: door.streams_per_connection,
        keep_alive_interval: door.keep_alive,
        keep_alive_timeout: door.keep_alive_answer,
        max_header_list_size: door.header_bytes,
        max_pending_accept_reset_streams: door.pending_resets,
        max_local_error_reset_streams: door.provoked_resets,
        stream_window: door.stream_window,
        connection_window: door.connection_window,
        max_send_buffer_size: door.unread_bytes_per_connection,
        header_block_timeout: door.header_block,
        answer_timeout: door.answer_read,
        idle_timeout: door.connection_idle,
        idle_frames: door.idle_frames,
        idle_frames_per_second: door.idle_frames_per_second,
        resets: door.resets,
        resets_per_second: door.resets_per_second,
        head_timeout: limits.first_byte,
        max_connection_age: limits.connection_age,
        drain_timeout: limits.drain,
        max_connections: door.connections.min(handles.open),
        max_connections_per_agency: door.connections_per_agency,
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
        request_body: config.front_door.request_body,
        message_bytes: limits.message_bytes,
        buffered_bytes: config.front_door.buffered_bytes,
        buffered_bytes_per_agency: config.front_door.buffered_bytes_per_agency,
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

pub(super) fn upstream_limits(config: &Config) -> UpstreamLimits {
    let upstream = &config.upstream;
    UpstreamLimits {
        failures: upstream.failures,
        pause: upstream.pause,
        longest_pause: upstream.longest_pause,
        stalled_after: upstream.stalled_after,
        questions: upstream.questions,
        questions_per_caller: upstream.questions_per_caller,
    }
}
