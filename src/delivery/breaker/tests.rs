//! When a registry is asked, and when not.

use std::time::Duration;

use super::*;

const KIND: AgencyKind = AgencyKind::CivilAffairsRegistry;
const LIMITS: UpstreamLimits = UpstreamLimits {
    failures: 3,
    pause: Duration::from_secs(4),
    longest_pause: Duration::from_secs(16),
    stalled_after: Duration::from_secs(5),
    questions: 4,
    questions_per_caller: 2,
};

struct Scene {
    breakers: Breakers,
    clock: Clock,
}

fn code(text: &str) -> CreditCode {
    CreditCode::parse(text).unwrap()
}

fn registry() -> CreditCode {
    code("91110000600037341L")
}

fn centre() -> CreditCode {
    code("11320000MB151840XJ")
}

fn another() -> CreditCode {
    code(crate::setup::codes::CENTRE)
}

impl Scene {
    fn new() -> Self {
        let clock = Clock::moved_by_hand("2026-03-02T01:00:00Z".parse().unwrap());
        Self { breakers: Breakers::new(LIMITS, clock.clone()), clock }
    }

    fn pass(&self, caller: CreditCode) -> Result<Passage, NoAnswer> {
        self.breakers.pass(caller, registry(), KIND)
    }

    fn fail(&self, caller: CreditCode, failure: Failure, times: u32) {
        for _ in 0..times {
            self.pass(caller).unwrap().end(Some(failure));
        }
    }

    fn refusal(&self, caller: CreditCode) -> Option<NoAnswer> {
        self.pass(caller).err()
    }

    fn metric(&self, labels: &[&str]) -> Option<f64> {
        let families = self.breakers.families();
        let mut samples = families.iter().flat_map(|family| &family.samples);
        let found = samples.find(|sample| {
            let words: Vec<_> = sample.labels.iter().map(|(_, word)| word.as_str()).collect();
            words == labels
        });
        found.map(|sample| sample.value)
    }
}

#[test]
fn a_registry_that_cannot_be_reached_is_left_alone_by_all_callers() {
    let scene = Scene::new();
    scene.fail(centre(), Failure::Unreachable, 2);
    scene.fail(another(), Failure::Unreachable, 1);
    assert_eq!(scene.refusal(centre()), Some(NoAnswer::CircuitOpen));
    assert_eq!(scene.refusal(another()), Some(NoAnswer::CircuitOpen));
    assert_eq!(scene.metric(&[KIND.as_str(), "all", "open"]), Some(1.0));
    assert_eq!(scene.metric(&[KIND.as_str(), "caller", "open"]), Some(0.0));
    assert_eq!(scene.metric(&[KIND.as_str(), "REGISTRY_CIRCUIT_OPEN"]), Some(2.0));
    let other_registry = scene.breakers.pass(centre(), another(), KIND);
    assert!(other_registry.is_ok(), "another registry has nothing to do with it");
}

#[test]
fn what_happens_to_a_callers_questions_on_their_way_is_not_held_against_anothers() {
    for failure in [Failure::Failed, Failure::Silent(LIMITS.stalled_after)] {
        let scene = Scene::new();
        scene.fail(centre(), failure, 3);
        assert_eq!(scene.refusal(centre()), Some(NoAnswer::CircuitOpen), "{failure:?}");
        assert_eq!(scene.refusal(another()), None, "{failure:?}");
        assert_eq!(scene.metric(&[KIND.as_str(), "caller", "open"]), Some(1.0));
        assert_eq!(scene.metric(&[KIND.as_str(), "all", "open"]), Some(0.0));
    }
}

#[test]
fn an_answer_between_failures_begins_the_count_anew() {
    let scene = Scene::new();
    for _ in 0..4 {
        scene.fail(centre(), Failure::Unreachable, 2);
        scene.pass(centre()).unwrap().end(None);
    }
    assert_eq!(scene.refusal(centre()), None);
}

#[test]
fn a_callers_own_short_time_and_giving_up_say_nothing_of_a_registry() {
    let scene = Scene::new();
    let too_short = LIMITS.stalled_after.checked_sub(Duration::from_millis(1)).unwrap();
    scene.fail(centre(), Failure::Silent(too_short), 20);
    for _ in 0..20 {
        drop(scene.pass(centre()).unwrap());
    }
    assert_eq!(scene.refusal(centre()), None);
}

#[test]
fn after_the_pause_one_question_is_the_probe_and_its_answer_lets_all_through() {
    let scene = Scene::new();
    scene.fail(centre(), Failure::Unreachable, 3);
    scene.clock.advance(LIMITS.pause * 3 / 4 - Duration::from_millis(100));
    assert_eq!(scene.refusal(centre()), Some(NoAnswer::CircuitOpen), "the pause is not over");
    scene.clock.advance(LIMITS.pause);
    let probe = scene.pass(centre()).unwrap();
    assert_eq!(scene.metric(&[KIND.as_str(), "all", "half_open"]), Some(1.0));
    assert_eq!(scene.refusal(another()), Some(NoAnswer::CircuitOpen), "one at a time");
    probe.end(None);
    let (one, other) = (scene.pass(centre()), scene.pass(another()));
    assert!(one.is_ok() && other.is_ok());
    assert_eq!(scene.metric(&[KIND.as_str(), "all", "half_open"]), Some(0.0));
}

#[test]
fn a_probe_that_fails_makes_the_pause_longer_up_to_the_longest() {
    let scene = Scene::new();
    scene.fail(centre(), Failure::Unreachable, 3);
    let mut pause = LIMITS.pause;
    for _ in 0..5 {
        scene.clock.advance(pause * 3 / 4 - Duration::from_millis(100));
        assert_eq!(scene.refusal(centre()), Some(NoAnswer::CircuitOpen), "{pause:?}");
        scene.clock.advance(pause / 2 + Duration::from_millis(200));
        scene.fail(centre(), Failure::Unreachable, 1);
        pause = (pause * 2).min(LIMITS.longest_pause);
    }
}

#[test]
fn a_probe_that_is_given_up_hands_its_turn_to_the_next_question() {
    let scene = Scene::new();
    scene.fail(centre(), Failure::Unreachable, 3);
    scene.clock.advance(LIMITS.pause * 2);
    drop(scene.pass(centre()).unwrap());
    let probe = scene.pass(another()).unwrap();
    assert_eq!(scene.refusal(centre()), Some(NoAnswer::CircuitOpen));
    probe.end(None);
    assert_eq!(scene.refusal(centre()), None);
}

#[test]
fn what_was_on_its_way_when_the_circuit_opened_does_not_lengthen_the_pause() {
    let scene = Scene::new();
    let late = scene.pass(another()).unwrap();
    scene.fail(centre(), Failure::Unreachable, 3);
    scene.clock.advance(LIMITS.pause * 5 / 4);
    late.end(Some(Failure::Unreachable));
    assert_eq!(scene.refusal(centre()), None);
}

#[test]
fn a_clock_that_is_set_back_keeps_no_circuit_open() {
    let scene = Scene::new();
    let mut circuit = Circuit::default();
    let now = scene.clock.now();
    for _ in 0..3 {
        circuit.fail(Turn::Ordinary, now, &LIMITS, 0);
    }
    assert!(!circuit.lets_through(now, &LIMITS));
    assert!(circuit.lets_through(now.checked_sub(Duration::from_secs(86_400)).unwrap(), &LIMITS));
}

#[test]
fn one_caller_takes_no_more_than_its_share_of_the_questions_at_once() {
    let scene = Scene::new();
    let held = [scene.pass(centre()).unwrap(), scene.pass(centre()).unwrap()];
    assert_eq!(scene.refusal(centre()), Some(NoAnswer::TooManyQuestions));
    let others = [scene.pass(another()).unwrap(), scene.pass(another()).unwrap()];
    assert_eq!(scene.refusal(registry()), Some(NoAnswer::TooManyQuestions), "all are taken");
    drop(held);
    assert_eq!(scene.refusal(centre()), None, "a place is given back however its question ends");
    drop(others);
}

#[test]
fn only_what_tells_of_the_registry_is_a_failure() {
    use tonic::{Code, Status};
    let after = Duration::from_secs(7);
    let of = |status: &Status| Failure::of(Some(status), after);
    for code in
        [Code::NotFound, Code::Internal, Code::PermissionDenied, Code::ResourceExhausted, Code::Unimplemented]
    {
        assert_eq!(of(&Status::new(code, "")), None, "{code:?}");
    }
    assert_eq!(Failure::of(None, after), None);
    assert_eq!(of(&Status::unavailable("")), Some(Failure::Failed));
    assert_eq!(of(&Status::deadline_exceeded("")), Some(Failure::Silent(after)));
    let dialled = DialError::ConnectTimedOut { address: "localhost:1".to_owned() };
    let mut status = Status::unavailable("");
    status.set_source(Arc::new(dialled));
    assert_eq!(of(&status), Some(Failure::Unreachable));
}
