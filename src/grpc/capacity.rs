//! How many calls there may be at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::call::Places;
use super::status::Refusal;
use crate::domain::agency::CreditCode;

/// Places for calls, in all and for each agency. Clones share them.
#[derive(Clone)]
pub(super) struct Capacity {
    all: Arc<Semaphore>,
    per_agency: usize,
    agencies: Arc<Mutex<HashMap<CreditCode, Arc<Semaphore>>>>,
}

impl Capacity {
    pub(super) fn new(all: usize, per_agency: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), per_agency, agencies: Arc::default() }
    }

    /// A place among all calls and one among the agency's.
    pub(super) fn take(&self, agency: CreditCode) -> Result<Places, Refusal> {
        let of_agency = {
            let mut agencies = self.agencies.lock().unwrap_or_else(PoisonError::into_inner);
            let new = || Arc::new(Semaphore::new(self.per_agency));
            // Bounded by the enrolled agencies: others do not get past the handshake.
            Arc::clone(agencies.entry(agency).or_insert_with(new))
        };
        let of_agency = of_agency.try_acquire_owned().map_err(|_| Refusal::AgencyOverloaded)?;
        let of_all = Arc::clone(&self.all).try_acquire_owned().map_err(|_| Refusal::Overloaded)?;
        Ok(Places { _of_all: of_all, _of_agency: of_agency })
    }
}

/// How many calls are worked on at once for each core, each until its first entry is durable. More gain nothing: they share
/// the cores with those before them, make larger batches that each waits longer for, and keep refusals waiting.
const TURNS_A_CORE: usize = 32;

/// Turns of the calls with effect that have a place and have been read. The others wait in order. Who waits for a registry
/// has passed its turn on.
pub struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self(Arc::new(Semaphore::new(cores * TURNS_A_CORE)))
    }
}

impl Turns {
    /// The next turn.
    pub(super) async fn next(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).acquire_owned().await.ok()
    }
}
