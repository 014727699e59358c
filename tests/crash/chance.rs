//! Chance that a run can repeat.

use std::time::Duration;

use legal_aid_gateway::entropy;

/// Chance that can be repeated: SplitMix64. A failure prints its seed.
pub(crate) struct Dice {
    pub(crate) seed: u64,
    state: u64,
}

impl Dice {
    pub(crate) fn new(seed: Option<u64>) -> Self {
        let seed = seed.unwrap_or_else(|| u64::from_le_bytes(entropy::bytes()));
        Self { seed, state: seed }
    }

    /// A number from `least` on, below `most`.
    pub(crate) fn between(&mut self, least: i64, most: i64) -> i64 {
        least + i64::try_from(self.roll() % most.abs_diff(least)).unwrap()
    }

    /// One of several.
    pub(crate) fn choose<T: Clone>(&mut self, among: &[T]) -> T {
        among[usize::try_from(self.roll()).unwrap() % among.len()].clone()
    }

    fn roll(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn one_in(&mut self, times: u64) -> bool {
        self.roll().is_multiple_of(times)
    }

    /// Time passes: the moment of a kill is not an event to wait for.
    pub(crate) async fn pause(&mut self, least: Duration, most: Duration) {
        let span = u64::try_from((most - least).as_micros()).unwrap();
        tokio::time::sleep(least + Duration::from_micros(self.roll() % span)).await;
    }
}

impl Drop for Dice {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("repeat with CRASH_SEED={}", self.seed);
        }
    }
}
