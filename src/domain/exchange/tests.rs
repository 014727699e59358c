use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

#[test]
fn a_fee_waiver_runs_from_receipt_over_supplement_to_close() {
    use ExchangeState as S;
    use Party::{Recipient, Sender};
    let mut state = S::Submitted;
    for (by, response, expected) in [
        (Recipient, ResponseKind::Receipt, S::Received),
        (Recipient, ResponseKind::SupplementRequest, S::SupplementRequested),
        (Sender, ResponseKind::Supplement, S::Supplemented),
        (Recipient, ResponseKind::Decision, S::Decided),
        (Sender, ResponseKind::Closure, S::Closed),
    ] {
        state = next_state(state, by, response).unwrap();
        assert_eq!(state, expected);
    }
}

#[test]
fn a_kind_goes_its_ways_and_no_other() {
    use AgencyKind as A;
    let allowed = |kind: Kind| {
        let pairs = A::ALL.iter().flat_map(|from| A::ALL.iter().map(move |to| (*from, *to)));
        pairs.filter(move |(from, to)| kind.route(*from, *to).is_ok()).collect::<Vec<_>>()
    };
    assert_eq!(allowed(Kind::FeeWaiver), [(A::LegalAidCentre, A::Court)]);
    let both = [(A::LegalAidCentre, A::Procuratorate), (A::Procuratorate, A::LegalAidCentre)];
    assert_eq!(allowed(Kind::AppealReferral), both);
    let notices = [A::Court, A::Procuratorate, A::PublicSecurityOrgan].map(|from| (from, A::LegalAidCentre));
    assert_eq!(allowed(Kind::CounselNotice), notices);
    for kind in Kind::ALL {
        assert_eq!(allowed(*kind).len(), kind.routes().count(), "{kind}");
    }
}

#[test]
fn a_wrong_way_names_the_right_ones_and_their_article() {
    let error = Kind::FeeWaiver.route(AgencyKind::Court, AgencyKind::LegalAidCentre).unwrap_err();
    assert!(error.to_string().ends_with("allowed: legal-aid-centre to court"), "{error}");
    assert_eq!(error.article(), Some(Article::court_fee_measures("48")));
    let error = Kind::AppealReferral.route(AgencyKind::Procuratorate, AgencyKind::Court).unwrap_err();
    assert_eq!(error.article(), Some(Article::legal_aid_law("33")));
}

#[test]
fn an_illegal_answer_names_what_is_allowed() {
    let error = next_state(ExchangeState::Received, Party::Recipient, ResponseKind::Receipt).unwrap_err();
    use ResponseKind::{Decision, Progress, SupplementRequest};
    assert_eq!(error.allowed, [SupplementRequest, Progress, Decision]);
    assert!(error.to_string().contains("allowed: SUPPLEMENT_REQUEST, PROGRESS, DECISION"), "{error}");
}

#[test]
fn nothing_follows_a_final_state() {
    use ExchangeState as S;
    for state in [S::Closed, S::Withdrawn, S::DeemedWithdrawn, S::Undeliverable] {
        for by in Party::ALL {
            for response in ResponseKind::ALL {
                let allowed = next_state(state, *by, *response).is_ok();
                assert!(!allowed, "{state} {by} {response}");
            }
        }
    }
}

#[test]
fn the_sender_never_decides_and_the_recipient_never_withdraws() {
    for state in ExchangeState::ALL {
        assert!(next_state(*state, Party::Sender, ResponseKind::Decision).is_err());
        assert!(next_state(*state, Party::Recipient, ResponseKind::Withdrawal).is_err());
    }
}

#[test]
fn an_id_has_one_spelling() {
    let id = "0190a6c4-7c1e-7b3a-8f00-0123456789ab";
    assert_eq!(RequestId::parse(id).unwrap().to_string(), id);
    assert!(RequestId::parse("0190a6c47c1e7b3a8f000123456789ab").is_none());
    assert!(RequestId::parse("00000000-0000-0000-0000-000000000000").is_none());
    assert!(RequestId::parse("").is_none());
}

#[test]
fn the_gateways_own_steps_are_these() {
    use ExchangeState as S;
    assert_eq!(Step::Arrival.moves(), (S::Submitted, S::Delivered));
    assert_eq!(Step::LateArrival.moves(), (S::Undeliverable, S::Delivered));
    assert_eq!(Step::GivingUp.moves(), (S::Submitted, S::Undeliverable));
    assert_eq!(Step::Redelivery.moves(), (S::Undeliverable, S::Submitted));
    assert_eq!(Step::Lapse.moves(), (S::SupplementRequested, S::DeemedWithdrawn));
    let is_final = |state: &&S| state.is_final();
    let found: Vec<_> = S::ALL.iter().filter(is_final).copied().collect();
    assert_eq!(found, [S::Closed, S::Withdrawn, S::DeemedWithdrawn]);
}

/// An exchange as a clerk would keep it in mind: facts, not states.
#[derive(Debug, Default)]
struct Clerk {
    arrived: bool,
    given_up: bool,
    confirmed: bool,
    papers_asked: bool,
    papers_came: bool,
    decided: bool,
    /// Withdrawn, deemed withdrawn or closed.
    over: bool,
}

impl Clerk {
    fn answer(&mut self, by: Party, response: ResponseKind) -> bool {
        use Party::{Recipient, Sender};
        let alive = !self.over && !self.given_up;
        let at_work = alive && self.confirmed && !self.decided;
        match (by, response) {
            (Recipient, ResponseKind::Receipt) if alive && !self.confirmed => self.confirmed = true,
            (Recipient, ResponseKind::SupplementRequest) if at_work && !self.papers_asked => {
                (self.papers_asked, self.papers_came) = (true, false);
            }
            (Sender, ResponseKind::Supplement) if at_work && self.papers_asked => {
                (self.papers_asked, self.papers_came) = (false, true);
            }
            (Recipient, ResponseKind::Progress) if at_work && !self.papers_asked => {}
            (Recipient, ResponseKind::Decision) if at_work && !self.papers_asked => self.decided = true,
            (Sender, ResponseKind::Withdrawal) if alive && !self.decided => self.over = true,
            (_, ResponseKind::Closure) if alive && self.decided => self.over = true,
            _ => return false,
        }
        true
    }

    fn step(&mut self, by: Step) -> bool {
        let waiting = !self.over && !self.given_up && !self.confirmed && !self.arrived;
        match by {
            Step::Arrival if waiting => self.arrived = true,
            Step::LateArrival if self.given_up => (self.given_up, self.arrived) = (false, true),
            Step::GivingUp if waiting => self.given_up = true,
            Step::Redelivery if self.given_up => self.given_up = false,
            Step::Lapse if self.papers_asked && !self.over => self.over = true,
            _ => return false,
        }
        true
    }
}

#[test]
fn arrival_makes_no_difference_to_an_answer_that_leads_to_the_same_state_before_and_after_it() {
    let arrival = Step::Arrival.moves();
    let mut indifferent = Vec::new();
    for state in ExchangeState::ALL {
        for (by, response) in
            Party::ALL.iter().flat_map(|by| ResponseKind::ALL.iter().map(move |kind| (*by, *kind)))
        {
            let Ok(to) = next_state(*state, by, response) else { continue };
            let other = state.or_arrived(response, to);
            if other != *state {
                assert_eq!((*state, other), arrival);
                assert_eq!(next_state(other, by, response).unwrap(), to);
                indifferent.push(response);
            }
        }
    }
    assert_eq!(indifferent, [ResponseKind::Withdrawal, ResponseKind::Receipt]);
}

#[derive(Clone, Copy, Debug)]
enum Deed {
    Answer(Party, ResponseKind),
    Step(Step),
}

fn any_deed() -> impl Strategy<Value = Deed> {
    let answer =
        (select(Party::ALL), select(ResponseKind::ALL)).prop_map(|(by, kind)| Deed::Answer(by, kind));
    prop_oneof![3 => answer, 1 => select(Step::ALL).prop_map(Deed::Step)]
}

proptest! {
    #[test]
    fn any_sequence_of_deeds_goes_as_the_clerk_has_it(deeds in vec(any_deed(), 0..60)) {
        let (mut state, mut clerk) = (ExchangeState::Submitted, Clerk::default());
        for deed in deeds {
            let (allowed, after) = match deed {
                Deed::Answer(by, response) => {
                    let after = next_state(state, by, response);
                    if let Err(error) = &after {
                        let others = ResponseKind::ALL.iter().copied();
                        let allowed: BTreeSet<_> =
                            others.filter(|other| next_state(state, by, *other).is_ok()).collect();
                        prop_assert_eq!(error.allowed.iter().copied().collect::<BTreeSet<_>>(), allowed);
                    }
                    (clerk.answer(by, response), after.ok())
                }
                Deed::Step(by) => {
                    let after = Some(by.moves()).filter(|(from, _)| *from == state).map(|(_, to)| to);
                    (clerk.step(by), after)
                }
            };
            prop_assert_eq!(after.is_some(), allowed, "{:?} in {} of {:?}", deed, state, clerk);
            state = after.unwrap_or(state);
            prop_assert_eq!(state.is_final(), clerk.over);
            prop_assert_eq!(state == ExchangeState::SupplementRequested, clerk.papers_asked && !clerk.over);
            prop_assert_eq!(state == ExchangeState::Supplemented, clerk.papers_came && !clerk.decided && !clerk.over);
            prop_assert_eq!(state == ExchangeState::Decided, clerk.decided && !clerk.over);
        }
    }
}

#[test]
fn what_a_state_does_not_allow_is_told_in_chinese_with_what_it_allows() {
    let refused = next_state(ExchangeState::Decided, Party::Sender, ResponseKind::Supplement).unwrap_err();
    assert_eq!(refused.description_zh(), "事项已决定，发送机构不能补正；可办理：办结");
    let refused = next_state(ExchangeState::Closed, Party::Recipient, ResponseKind::Receipt).unwrap_err();
    assert_eq!(refused.description_zh(), "事项已办结，接收机构不能签收；可办理：无");
}
