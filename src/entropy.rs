//! Randomness from the system, in the shapes that are needed.

use jiff::Timestamp;
use uuid::Uuid;

/// Random bytes.
#[allow(clippy::expect_used, reason = "a system without randomness cannot keep any promise")]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("system randomness");
    bytes
}

/// A UUID of version 7 (RFC 9562, section 5.7) of a given time.
pub fn uuid_v7(at: Timestamp) -> Uuid {
    let millis = u64::try_from(at.as_millisecond()).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &bytes()).into_uuid()
}
