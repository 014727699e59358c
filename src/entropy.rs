//! Randomness from the system, in the shapes that are needed.

use std::cell::RefCell;

use jiff::Timestamp;
use uuid::Uuid;
use zeroize::Zeroize;

/// Bytes drawn from the generator at once. A call takes eight or so draws of 10 to 32 bytes, and each draw, however
/// small, costs the generator a reseeding from the processor: one for all of them took 2 % off a call.
const DRAWN: usize = 512;

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { bytes: [0; DRAWN], left: 0 }) };
}

/// Random bytes that nobody has had yet. What was handed out is wiped.
struct Pool {
    bytes: [u8; DRAWN],
    left: usize,
}

impl Pool {
    fn fill(&mut self, wanted: &mut [u8]) {
        if wanted.len() > DRAWN {
            return draw(wanted);
        }
        if wanted.len() > self.left {
            draw(&mut self.bytes);
            self.left = DRAWN;
        }
        let from = self.left - wanted.len();
        let taken = &mut self.bytes[from..self.left];
        wanted.copy_from_slice(taken);
        taken.zeroize();
        self.left = from;
    }
}

#[allow(clippy::expect_used, reason = "a system without randomness cannot keep any promise")]
fn draw(bytes: &mut [u8]) {
    aws_lc_rs::rand::fill(bytes).expect("system randomness");
}

/// Random bytes.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    POOL.with_borrow_mut(|pool| pool.fill(&mut bytes));
    bytes
}

/// A UUID of version 7 (RFC 9562, section 5.7) of a given time.
pub fn uuid_v7(at: Timestamp) -> Uuid {
    let millis = u64::try_from(at.as_millisecond()).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &bytes()).into_uuid()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_bytes_are_handed_out_twice_and_what_was_is_wiped() {
        let mut seen = HashSet::new();
        for _ in 0..1000 {
            assert!(seen.insert(bytes::<16>()));
            assert!(seen.insert(bytes::<32>()[..16].try_into().unwrap()));
        }
        POOL.with_borrow(|pool| assert!(pool.bytes[pool.left..].iter().all(|byte| *byte == 0)));
        assert_ne!(bytes::<600>(), [0; 600]);
    }
}
