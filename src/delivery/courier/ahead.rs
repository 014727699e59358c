//! What comes next for a recipient. A page of what is due is looked up together and then used up, so that places are filled as they
//! become free, without a search of the outbox for each.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::{LOOK_EVERY, PAUSE};
use crate::domain::exchange::DeliveryId;
use crate::store::{Due, Share};

/// Deliveries that are looked up together. Of each only the id, the time and the size is held.
const PAGE: u32 = 128;

/// How long what falls to another gateway is left to it. Two that take one delivery cost each other nothing but work: the second
/// finds it taken. But the log then writes a whole batch again.
const GRACE: Duration = Duration::from_millis(50);

/// How long the oldest message of a sender is left to another gateway that has it to do: that one may stand still, or not reach the
/// recipient, while this one has enough of its own to do for long.
const LONGEST_GRACE: Duration = Duration::from_secs(5);

/// What was looked up, and when to look again.
#[derive(Debug)]
pub(super) struct Ahead {
    next: VecDeque<Due>,
    /// When it was last looked.
    looked: Option<Instant>,
    /// When to look again, where more may be due.
    look_at: Option<Instant>,
    /// What could not be begun, and until when it is passed over.
    aside: Vec<DeliveryId>,
    aside_until: Option<Instant>,
}

impl Ahead {
    /// Nothing looked up yet.
    pub(super) fn new(now: Instant) -> Self {
        Self { next: VecDeque::new(), looked: None, look_at: Some(now), aside: Vec::new(), aside_until: None }
    }

    /// Notes that something may have become due. It is looked up soon; where much becomes due, together.
    pub(super) fn expect_more(&mut self, now: Instant) {
        let soonest = self.looked.map_or(now, |looked| looked + PAUSE);
        self.look_at = Some(self.look_at.map_or(soonest, |at| at.min(soonest)));
    }

    /// When to look; `None` while there is something to take, or nothing to expect.
    pub(super) fn look_at(&self) -> Option<Instant> {
        self.look_at.filter(|_| self.next.is_empty())
    }

    /// How much to look up.
    pub(super) fn page(share: Share) -> u32 {
        // Enough to find so much of one's own among it.
        PAGE.saturating_mul(share.of.clamp(1, 8))
    }

    /// Passes a delivery over for a while. Returns whether no more may be passed over.
    pub(super) fn set_aside(&mut self, delivery: DeliveryId, now: Instant) -> bool {
        self.aside.push(delivery);
        let until = *self.aside_until.get_or_insert(now + LOOK_EVERY);
        self.look_at = Some(self.look_at.map_or(until, |at| at.min(until)));
        self.aside.len() >= PAGE as usize
    }

    /// What is passed over at a moment.
    pub(super) fn passed_over(&mut self, now: Instant) -> &[DeliveryId] {
        if self.aside_until.is_some_and(|until| until <= now) {
            self.aside.clear();
            self.aside_until = None;
        }
        &self.aside
    }

    /// Keeps a page that was looked up, in the order of the outbox, and whether that holds more: what falls to this gateway, and what
    /// the others leave, if otherwise it could not take so much as there is `room` for.
    pub(super) fn keep(
        &mut self,
        (found, more): (Vec<Due>, bool),
        share: Share,
        room: usize,
        (now, time): (Instant, Timestamp),
    ) {
        self.looked = Some(now);
        let waits = |due: &Due, grace| {
            time.duration_since(due.since) >= SignedDuration::try_from(grace).unwrap_or_default()
        };
        let is_own = |due: &Due| falls_to(share, due) || (due.is_oldest && waits(due, LONGEST_GRACE));
        let (own, mut others): (Vec<_>, Vec<_>) = found.into_iter().partition(is_own);
        self.next = own.into();
        // From the end: whose they are takes them from the beginning.
        while self.next.len() < room
            && let Some(place) = others.iter().rposition(|due| waits(due, GRACE))
        {
            self.next.push_back(others.remove(place));
        }
        self.look_at = if more && !self.next.is_empty() {
            Some(now)
        } else if others.is_empty() {
            self.aside_until
        } else {
            Some(now + GRACE)
        };
    }

    /// Takes the next ones: at most so many, and so many bytes, but one where any are allowed.
    pub(super) fn take(&mut self, most: usize, mut bytes: u64, is_first: bool) -> Vec<Due> {
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some(due) = self.next.front().copied()
            && (due.bytes <= bytes || (is_first && taken.is_empty()))
        {
            bytes = bytes.saturating_sub(due.bytes);
            taken.push(due);
            self.next.pop_front();
        }
        taken
    }
}

/// Whether a delivery falls to a gateway: by the last byte of its id, which is random.
fn falls_to(share: Share, due: &Due) -> bool {
    let [.., last] = *due.delivery_id.as_bytes();
    u32::from(last) % share.of.max(1) == share.place
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const TIME: Timestamp = Timestamp::constant(1_793_584_800, 0);
    const HALF: Share = Share { place: 1, of: 2 };

    /// Due since so many milliseconds; the number is the last byte of its id.
    fn due(number: u8, since: i64) -> Due {
        let delivery_id = DeliveryId::new(Uuid::from_u128(u128::from(number)));
        Due { delivery_id, since: TIME - SignedDuration::from_millis(since), bytes: 10, is_oldest: false }
    }

    fn numbers(taken: &[Due]) -> Vec<u8> {
        taken.iter().map(|due| due.delivery_id.as_bytes()[15]).collect()
    }

    fn kept(found: Vec<Due>, share: Share, room: usize, now: Instant) -> Ahead {
        let mut ahead = Ahead::new(now);
        ahead.keep((found, false), share, room, (now, TIME));
        ahead
    }

    #[test]
    fn a_gateway_takes_what_falls_to_it_and_of_the_rest_the_newest_that_were_left() {
        let now = Instant::now();
        let page = || (1..=8).map(|number| due(number, 900 - i64::from(number))).collect();
        let mut enough = kept(page(), HALF, 4, now);
        assert_eq!(numbers(&enough.take(9, u64::MAX, true)), [1, 3, 5, 7]);
        let mut short = kept(page(), HALF, 6, now);
        assert_eq!(numbers(&short.take(9, u64::MAX, true)), [1, 3, 5, 7, 8, 6]);
        let mut alone = kept(page(), Share::WHOLE, 2, now);
        assert_eq!(numbers(&alone.take(9, u64::MAX, true)), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(alone.look_at(), None, "all of it was read");
    }

    #[test]
    fn what_has_just_become_due_is_left_to_whose_it_is_for_a_moment() {
        let now = Instant::now();
        let mut ahead = kept(vec![due(2, 0), due(4, 60), due(6, 1)], HALF, 8, now);
        assert_eq!(numbers(&ahead.take(9, u64::MAX, true)), [4]);
        assert_eq!(ahead.look_at(), Some(now + GRACE));
        ahead.keep((vec![due(2, 50), due(6, 51)], false), HALF, 8, (now + GRACE, TIME));
        assert_eq!(numbers(&ahead.take(9, u64::MAX, true)), [6, 2]);
        assert_eq!(ahead.look_at(), None);
    }

    #[test]
    fn the_oldest_of_a_sender_is_not_left_for_ever_to_a_gateway_that_does_not_take_it() {
        let now = Instant::now();
        let oldest = |number, since| Due { is_oldest: true, ..due(number, since) };
        let page = vec![oldest(1, 9_000), oldest(2, 5_000), oldest(4, 4_999), due(3, 9_000), due(6, 9_000)];
        let mut ahead = kept(page, HALF, 2, now);
        assert_eq!(numbers(&ahead.take(9, u64::MAX, true)), [1, 2, 3]);
    }

    #[test]
    fn so_many_bytes_are_taken_and_always_one() {
        let now = Instant::now();
        let mut ahead = kept((1..=5).map(|number| due(number, 900)).collect(), Share::WHOLE, 4, now);
        assert_eq!(numbers(&ahead.take(9, 25, true)), [1, 2]);
        assert!(ahead.take(9, 5, false).is_empty());
        assert_eq!(numbers(&ahead.take(9, 5, true)), [3]);
        assert_eq!(numbers(&ahead.take(1, 25, false)), [4]);
    }

    #[test]
    fn it_is_looked_again_at_once_after_a_full_page_soon_after_a_change_and_else_never() {
        let now = Instant::now();
        let full = (0..PAGE).map(|number| due(number as u8, 900)).collect();
        let mut ahead = Ahead::new(now);
        ahead.keep((full, true), Share::WHOLE, 4, (now, TIME));
        assert_eq!(ahead.look_at(), None, "there is enough to take");
        ahead.take(PAGE as usize, u64::MAX, true);
        assert_eq!(ahead.look_at(), Some(now));
        ahead.keep((Vec::new(), false), Share::WHOLE, 4, (now, TIME));
        assert_eq!(ahead.look_at(), None);
        ahead.expect_more(now);
        ahead.expect_more(now + PAUSE);
        assert_eq!(ahead.look_at(), Some(now + PAUSE));
    }

    #[test]
    fn what_could_not_be_begun_is_passed_over_for_a_while_and_then_looked_at_again() {
        let now = Instant::now();
        let mut ahead = kept(Vec::new(), Share::WHOLE, 4, now);
        let bad = due(7, 900).delivery_id;
        assert!(!ahead.set_aside(bad, now));
        assert_eq!(ahead.passed_over(now), [bad]);
        ahead.keep((Vec::new(), false), Share::WHOLE, 4, (now, TIME));
        assert_eq!(ahead.look_at(), Some(now + LOOK_EVERY), "it is due still");
        assert!(ahead.passed_over(now + LOOK_EVERY).is_empty());
        assert!((0..PAGE).any(|_| ahead.set_aside(bad, now)));
    }
}
