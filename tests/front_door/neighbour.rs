//! A well-behaved agency that calls all the time, in a thread and runtime of its own: what it notices of an attack.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use legal_aid_gateway::client::AgencyClient;
use legal_aid_gateway::clock::Clock;
use legal_aid_gateway::grpc::proto;

use crate::support::DEADLINE;

/// What calls came to since they were last asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Noticed {
    pub(crate) micros: Vec<u64>,
    pub(crate) errors: Vec<String>,
}

impl Noticed {
    /// The time that one call in a hundred takes longer than, in milliseconds.
    #[allow(dead_code, reason = "for the benchmark")]
    pub(crate) fn p99_ms(&self) -> f64 {
        let mut micros = self.micros.clone();
        micros.sort_unstable();
        let at = (micros.len() * 99).div_ceil(100).saturating_sub(1);
        micros.get(at).map_or(0.0, |micros| *micros as f64 / 1000.0)
    }
}

/// Calls until it is stopped.
pub(crate) struct Neighbour {
    noticed: Arc<Mutex<Noticed>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Neighbour {
    /// Begins to call as the agency of that name, with what `question` makes; returns when the first call is answered.
    pub(crate) async fn start(
        folder: &Path,
        name: &str,
        pause: Duration,
        question: impl Fn(&AgencyClient) -> proto::VerifyLowIncomeRequest + Send + 'static,
    ) -> Self {
        let noticed = Arc::new(Mutex::new(Noticed::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let (keep, told) = (Arc::clone(&noticed), Arc::clone(&stop));
        let profile = folder.join(format!("{name}.toml"));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let client = AgencyClient::load(&profile, Clock::system()).unwrap();
                while !told.load(Ordering::Relaxed) {
                    let request = client.request(question(&client), DEADLINE);
                    let began = Instant::now();
                    let answered = client.verification().verify_low_income(request).await;
                    let micros = u64::try_from(began.elapsed().as_micros()).unwrap();
                    {
                        let mut noticed = keep.lock().unwrap();
                        noticed.micros.push(micros);
                        let error = match answered {
                            // An unreachable register is an answer too, but not one of a neighbour who notices nothing.
                            Ok(answer) => {
                                let result =
                                    answer.get_ref().answer.as_ref().map(proto::LowIncomeAnswer::result);
                                let is_match = result == Some(proto::VerificationResult::Match);
                                (!is_match)
                                    .then(|| format!("{:?}", result.map(|result| result.as_str_name())))
                            }
                            Err(status) => Some(format!("{:?}: {}", status.code(), status.message())),
                        };
                        noticed.errors.extend(error);
                    }
                    tokio::time::sleep(pause).await;
                }
            });
        });
        let neighbour = Self { noticed, stop, thread: Some(thread) };
        neighbour.until_calls(1).await;
        neighbour
    }

    /// Waits until it has made so many calls more.
    pub(crate) async fn until_calls(&self, more: usize) {
        let calls = || self.noticed.lock().unwrap().micros.len();
        let before = calls();
        while calls() < before + more {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What it noticed since this was last asked.
    pub(crate) fn take(&self) -> Noticed {
        std::mem::take(&mut *self.noticed.lock().unwrap())
    }

    /// What it noticed since then, after it has made its last call.
    #[allow(dead_code, reason = "for the tests")]
    pub(crate) async fn stop(mut self) -> Noticed {
        self.until_calls(1).await;
        self.end();
        self.take()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.end();
    }
}
