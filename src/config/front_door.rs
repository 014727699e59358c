//! `[front_door]`: what a connection may use, how long it may last, and what it may hold.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::contradictions::Contradictions;
use super::{LimitsSection, duration};

/// `[front_door]`. Handshakes, the first byte after them, the age of connections and the drain are in `[limits]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct FrontDoorSection {
    /// Open connections in all. Fewer where there are not enough file handles.
    pub connections: usize,
    /// Open connections of one agency.
    pub connections_per_agency: usize,
    /// Calls at once on one connection.
    pub streams_per_connection: u32,
    /// Bytes of one header block, decoded.
    pub header_bytes: u32,
    /// Time for a header block, or any other frame but data, from its first byte to its last.
    #[serde(with = "duration")]
    pub header_block: Duration,
    /// Time for the message of a request that is no stream to be whole.
    #[serde(with = "duration")]
    pub request_body: Duration,
    /// Time for the peer to read an answer, or one message of an answer that is a stream.
    #[serde(with = "duration")]
    pub answer_read: Duration,
    /// How long a connection may be without a call before it is asked to go.
    #[serde(with = "duration")]
    pub connection_idle: Duration,
    /// How often a connection is asked whether its peer is there.
    #[serde(with = "duration")]
    pub keep_alive: Duration,
    /// Time for the peer to say so.
    #[serde(with = "duration")]
    pub keep_alive_answer: Duration,
    /// Bytes of messages that are being received, worked on or read, in all.
    pub buffered_bytes: usize,
    /// The same of one agency.
    pub buffered_bytes_per_agency: usize,
    /// Bytes that a peer may send ahead on one call.
    pub stream_window: u32,
    /// Bytes that a peer may send ahead on one connection.
    pub connection_window: u32,
    /// Bytes of answers that wait in one connection to be written.
    pub unread_bytes_per_connection: usize,
    /// Frames on one connection that ask for nothing (pings, settings, window updates, empty data), at once.
    pub idle_frames: u32,
    /// The same, a second.
    pub idle_frames_per_second: u32,
    /// Calls on one connection that the peer gives up, at once.
    pub resets: u32,
    /// The same, a second.
    pub resets_per_second: u32,
    /// Calls on one connection that had to be reset for the peer's errors.
    pub provoked_resets: usize,
    /// Calls on one connection that the peer gave up before they were looked at.
    pub pending_resets: usize,
}

impl Default for FrontDoorSection {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_agency: 128,
            streams_per_connection: 100,
            header_bytes: 16 * 1024,
            header_block: Duration::from_secs(10),
            request_body: Duration::from_secs(20),
            answer_read: Duration::from_secs(30),
            connection_idle: Duration::from_secs(600),
            keep_alive: Duration::from_secs(20),
            keep_alive_answer: Duration::from_secs(10),
            buffered_bytes: 128 * 1024 * 1024,
            buffered_bytes_per_agency: 16 * 1024 * 1024,
            stream_window: 256 * 1024,
            connection_window: 512 * 1024,
            unread_bytes_per_connection: 128 * 1024,
            idle_frames: 1000,
            idle_frames_per_second: 100,
            resets: 200,
            resets_per_second: 20,
            provoked_resets: 100,
            pending_resets: 20,
        }
    }
}

impl FrontDoorSection {
    pub(super) fn check(&self, limits: &LimitsSection, found: &mut Contradictions) {
        for (key, duration) in [
            ("front_door.header_block", self.header_block),
            ("front_door.request_body", self.request_body),
            ("front_door.answer_read", self.answer_read),
            ("front_door.connection_idle", self.connection_idle),
            ("front_door.keep_alive", self.keep_alive),
            ("front_door.keep_alive_answer", self.keep_alive_answer),
            ("limits.handshake", limits.handshake),
            ("limits.first_byte", limits.first_byte),
            ("limits.connection_age", limits.connection_age),
        ] {
            found.unless(!duration.is_zero(), key, "must be longer than nothing, such as \"10s\"");
        }
        for (key, number) in [
            ("front_door.connections", self.connections),
            ("front_door.connections_per_agency", self.connections_per_agency),
            ("front_door.streams_per_connection", self.streams_per_connection as usize),
            ("front_door.unread_bytes_per_connection", self.unread_bytes_per_connection),
            ("front_door.idle_frames", self.idle_frames as usize),
            ("front_door.resets", self.resets as usize),
            ("limits.pending_handshakes", limits.pending_handshakes),
            ("limits.pending_handshakes_per_address", limits.pending_handshakes_per_address),
            ("limits.message_bytes", limits.message_bytes),
        ] {
            found.unless(number > 0, key, "must be at least 1, or nobody is served");
        }
        self.check_times(limits, found);
        self.check_sizes(limits, found);
    }

    /// Of two that run at once, the inner one must end first.
    fn check_times(&self, limits: &LimitsSection, found: &mut Contradictions) {
        found.unless(
            limits.first_byte <= self.connection_idle,
            "limits.first_byte",
            "must not be longer than front_door.connection_idle: who has not begun is not served longer than who has",
        );
        found.unless(
            self.header_block <= self.connection_idle,
            "front_door.header_block",
            "must not be longer than front_door.connection_idle",
        );
        found.unless(
            self.connection_idle <= limits.connection_age,
            "front_door.connection_idle",
            "must not be longer than limits.connection_age, or it never comes to pass",
        );
        found.unless(
            self.request_body <= limits.longest_deadline,
            "front_door.request_body",
            "must not be longer than limits.longest_deadline: the call would be over before its request is whole",
        );
        found.unless(
            self.keep_alive_answer <= self.keep_alive,
            "front_door.keep_alive_answer",
            "must not be longer than front_door.keep_alive: one question is answered before the next is put",
        );
    }

    fn check_sizes(&self, limits: &LimitsSection, found: &mut Contradictions) {
        /// RFC 9113 section 6.9.2: what every connection begins with.
        const FIRST_WINDOW: u32 = 65_535;
        /// RFC 9113 section 6.9.1.
        const LARGEST_WINDOW: u32 = (1 << 31) - 1;
        for (each, all, key, remedy) in [
            (
                self.connections_per_agency,
                self.connections,
                "front_door.connections_per_agency",
                "must not exceed front_door.connections",
            ),
            (
                limits.pending_handshakes_per_address,
                limits.pending_handshakes,
                "limits.pending_handshakes_per_address",
                "must not exceed limits.pending_handshakes",
            ),
            (
                self.buffered_bytes_per_agency,
                self.buffered_bytes,
                "front_door.buffered_bytes_per_agency",
                "must not exceed front_door.buffered_bytes: one agency could take all the room",
            ),
            (
                limits.message_bytes,
                self.buffered_bytes_per_agency,
                "limits.message_bytes",
                "must not exceed front_door.buffered_bytes_per_agency, or the largest message never finds room",
            ),
            (
                self.stream_window as usize,
                self.connection_window as usize,
                "front_door.stream_window",
                "must not exceed front_door.connection_window",
            ),
        ] {
            found.unless(each <= all, key, remedy);
        }
        found.unless(
            (FIRST_WINDOW..=LARGEST_WINDOW).contains(&self.connection_window),
            "front_door.connection_window",
            "must be from 65535 to 2147483647 (RFC 9113 section 6.9)",
        );
        found.unless(
            self.stream_window > 0,
            "front_door.stream_window",
            "must be at least 1, or no message comes in",
        );
        found.unless(
            self.header_bytes >= 4096,
            "front_door.header_bytes",
            "must be at least 4096: a call's own headers take most of that",
        );
    }
}
