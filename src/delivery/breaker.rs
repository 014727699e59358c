//! Who may be asked now. A registry that fails is left alone for a while, and no caller may take so much of one that
//! nothing is left for the others.
//!
//! There are two circuits on the way of a question. That nobody can be reached at a registry's address is nobody's fault
//! but the registry's, and opens its own circuit, for all callers. What happens to a question on its way (no answer in
//! time, a lost connection, an error of the service) may be the doing of who asks, and opens the circuit of this caller
//! to this registry only. Either is closed again by a question that is let through alone, as a probe, after a pause.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use self::circuit::{Circuit, State, Turn};
use crate::clock::Clock;
use crate::domain::agency::{AgencyKind, CreditCode};
use crate::domain::verification::NoAnswer;
use crate::entropy;
use crate::identity::dialler::DialError;
use crate::telemetry::{Family, Kind, Sample};

mod circuit;
#[cfg(test)]
mod tests;

/// When a registry is left alone, and how much of it one caller may take.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamLimits {
    /// Failures in a row that open a circuit.
    pub failures: u32,
    /// How long it stays open; doubled each time that the probe fails, give or take a quarter.
    pub pause: Duration,
    /// The longest pause, before that quarter.
    pub longest_pause: Duration,
    /// How long a registry must have had a question for its silence to count.
    pub stalled_after: Duration,
    /// Questions at once to one registry.
    pub questions: usize,
    /// The same of one caller.
    pub questions_per_caller: usize,
}

impl Default for UpstreamLimits {
    fn default() -> Self {
        Self {
            failures: 5,
            pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(30),
            stalled_after: Duration::from_secs(5),
            questions: 256,
            questions_per_caller: 128,
        }
    }
}

/// The circuits to all registries. Cheap to clone; clones are the same. Bounded by the agencies of the directory.
#[derive(Clone, Debug)]
pub struct Breakers {
    limits: UpstreamLimits,
    clock: Clock,
    registries: Arc<Mutex<HashMap<CreditCode, Registry>>>,
}

#[derive(Debug)]
struct Registry {
    kind: AgencyKind,
    circuit: Circuit,
    questions: usize,
    callers: HashMap<CreditCode, Caller>,
    refused: BTreeMap<NoAnswer, u64>,
}

#[derive(Debug, Default)]
struct Caller {
    circuit: Circuit,
    questions: usize,
}

/// What went wrong with a question, as far as it tells of the registry. A definite answer, a refusal too, is no failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No connection came about.
    Unreachable,
    /// The connection was lost, or the service says that it does not work now.
    Failed,
    /// There was no answer in this time.
    Silent(Duration),
}

impl Failure {
    /// What a status, or an answer without one, tells of who sent it `after` this time.
    pub(crate) fn of(status: Option<&tonic::Status>, after: Duration) -> Option<Self> {
        let status = status?;
        let made_here = status.source().is_some();
        match status.code() {
            tonic::Code::DeadlineExceeded | tonic::Code::Cancelled => Some(Self::Silent(after)),
            _ if made_here && was_not_dialled(status) => Some(Self::Unreachable),
            tonic::Code::Unavailable => Some(Self::Failed),
            _ => made_here.then_some(Self::Failed),
        }
    }
}

fn was_not_dialled(status: &tonic::Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<DialError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// A question on its way. One that is dropped without an end says nothing of the registry: its caller gave it up.
#[derive(Debug)]
pub(crate) struct Passage {
    breakers: Breakers,
    registry: CreditCode,
    caller: CreditCode,
    registry_turn: Turn,
    caller_turn: Turn,
    verdict: Verdict,
}

#[derive(Clone, Copy, Debug)]
enum Verdict {
    Answered,
    Failed(Failure),
    Unknown,
}

impl Breakers {
    /// Circuits that are closed. `clock` says when a pause is over.
    pub fn new(limits: UpstreamLimits, clock: Clock) -> Self {
        Self { limits, clock, registries: Arc::default() }
    }

    /// Lets a question through to a registry of this kind, on a caller's behalf.
    ///
    /// # Errors
    /// [`NoAnswer::CircuitOpen`] and [`NoAnswer::TooManyQuestions`].
    pub(crate) fn pass(
        &self,
        caller: CreditCode,
        registry: CreditCode,
        kind: AgencyKind,
    ) -> Result<Passage, NoAnswer> {
        let (now, limits) = (self.clock.now(), &self.limits);
        let mut registries = self.lock();
        let asked = registries.entry(registry).or_insert_with(|| Registry::of(kind));
        let own = asked.callers.entry(caller).or_default();
        let refusal = if !asked.circuit.lets_through(now, limits) || !own.circuit.lets_through(now, limits) {
            Some(NoAnswer::CircuitOpen)
        } else if asked.questions >= limits.questions || own.questions >= limits.questions_per_caller {
            Some(NoAnswer::TooManyQuestions)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            *asked.refused.entry(refusal).or_default() += 1;
            return Err(refusal);
        }
        asked.questions += 1;
        own.questions += 1;
        let (registry_turn, caller_turn) = (asked.circuit.enter(), own.circuit.enter());
        drop(registries);
        let verdict = Verdict::Unknown;
        Ok(Passage { breakers: self.clone(), registry, caller, registry_turn, caller_turn, verdict })
    }

    /// Circuits that are not closed, and questions that were not asked, by kind of registry.
    pub fn families(&self) -> Vec<Family> {
        let registries = self.lock();
        let (mut circuits, mut refused) = (BTreeMap::new(), BTreeMap::new());
        for registry in registries.values() {
            let kind = registry.kind.as_str();
            for between in ["all", "caller"] {
                for state in [State::Open, State::HalfOpen] {
                    circuits.entry((kind, between, state.as_str())).or_insert(0_u64);
                }
            }
            let own = registry.callers.values().map(|caller| ("caller", &caller.circuit));
            for (between, circuit) in own.chain([("all", &registry.circuit)]) {
                if let Some(count) = circuits.get_mut(&(kind, between, circuit.state().as_str())) {
                    *count += 1;
                }
            }
            for reason in [NoAnswer::CircuitOpen, NoAnswer::TooManyQuestions] {
                let count = registry.refused.get(&reason).copied().unwrap_or_default();
                *refused.entry((kind, reason.as_str())).or_insert(0) += count;
            }
        }
        let circuits = circuits.into_iter().map(|((kind, of, state), count)| {
            let labels = [("agency_kind", kind), ("of", of), ("state", state)];
            Sample::of(labels.map(|(label, word)| (label, word.to_owned())).to_vec(), count as f64)
        });
        let refused = refused.into_iter().map(|((kind, reason), count)| {
            let labels = [("agency_kind", kind), ("reason", reason)];
            Sample::of(labels.map(|(label, word)| (label, word.to_owned())).to_vec(), count as f64)
        });
        vec![
            Family {
                name: "legal_aid_upstream_circuits",
                help: "Circuits to registries that are not closed, by kind of registry, whose they are, and state.",
                kind: Kind::Gauge,
                samples: circuits.collect(),
            },
            Family {
                name: "legal_aid_upstream_refused_total",
                help: "Questions that were not passed on to a registry, by kind of registry and reason.",
                kind: Kind::Counter,
                samples: refused.collect(),
            },
        ]
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CreditCode, Registry>> {
        self.registries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, passage: &Passage) {
        let now = self.clock.now();
        let mut registries = self.lock();
        let Some(registry) = registries.get_mut(&passage.registry) else { return };
        registry.questions = registry.questions.saturating_sub(1);
        let Some(own) = registry.callers.get_mut(&passage.caller) else { return };
        own.questions = own.questions.saturating_sub(1);
        let was = (registry.circuit.state(), own.circuit.state());
        match self.weighed(passage.verdict) {
            Verdict::Answered => {
                registry.circuit.close();
                own.circuit.close();
            }
            Verdict::Failed(Failure::Unreachable) => {
                self.fail(&mut registry.circuit, passage.registry_turn, now);
                own.circuit.give_up(passage.caller_turn, now);
            }
            Verdict::Failed(_) => {
                self.fail(&mut own.circuit, passage.caller_turn, now);
                registry.circuit.give_up(passage.registry_turn, now);
            }
            Verdict::Unknown => {
                registry.circuit.give_up(passage.registry_turn, now);
                own.circuit.give_up(passage.caller_turn, now);
            }
        }
        let is = (registry.circuit.state(), own.circuit.state());
        drop(registries);
        tell(passage, "all", was.0, is.0);
        tell(passage, "caller", was.1, is.1);
    }

    /// That a caller had less time than a registry may take says nothing of the registry.
    fn weighed(&self, verdict: Verdict) -> Verdict {
        match verdict {
            Verdict::Failed(Failure::Silent(time)) if time < self.limits.stalled_after => Verdict::Unknown,
            verdict => verdict,
        }
    }

    fn fail(&self, circuit: &mut Circuit, turn: Turn, now: Timestamp) {
        circuit.fail(turn, now, &self.limits, entropy::bytes::<1>()[0]);
    }
}

impl Registry {
    fn of(kind: AgencyKind) -> Self {
        let (callers, refused) = (HashMap::new(), BTreeMap::new());
        Self { kind, circuit: Circuit::default(), questions: 0, callers, refused }
    }
}

/// One line when a circuit opens, and one when it is closed again; none for a pause after another.
fn tell(passage: &Passage, of: &'static str, was: State, is: State) {
    let Passage { registry, caller, .. } = passage;
    match (was, is) {
        (State::Closed, State::Open) => {
            tracing::warn!(%registry, %caller, of, "circuit opened: the registry is not asked for a while");
        }
        (State::Open | State::HalfOpen, State::Closed) => {
            tracing::info!(%registry, %caller, of, "circuit closed: the registry answers");
        }
        _ => {}
    }
}

impl Passage {
    /// The question has an answer, or failed.
    pub(crate) fn end(mut self, failure: Option<Failure>) {
        self.verdict = failure.map_or(Verdict::Answered, Verdict::Failed);
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        self.breakers.end(self);
    }
}
