use super::*;
use crate::domain::person::{IdDocument, IdKind, PersonName};
use crate::domain::region::RegionCode;
use crate::domain::verification::Subject;
use crate::grpc::generated::google::r#type as google_type;

const KEY: [u8; 32] = [9; 32];

const TODAY: Date = Date::constant(2026, 3, 2);

fn asked() -> HouseholdQuery {
    HouseholdQuery {
        subject: Subject {
            name: PersonName::parse("测试甲").unwrap(),
            id: IdDocument::parse(IdKind::ResidentId, "11010519491231002X", TODAY).unwrap(),
            household_region: RegionCode::parse("331004").unwrap(),
        },
        as_of: TODAY,
    }
}

fn answered(result: proto::VerificationResult) -> proto::QueryLowIncomeResponse {
    let active = (result == proto::VerificationResult::Match).then(|| proto::ProgrammeStatus {
        programme: proto::Programme::MinimumAllowance.into(),
        status: proto::RegisterStatus::Active.into(),
        ..Default::default()
    });
    proto::QueryLowIncomeResponse {
        answer: Some(proto::LowIncomeAnswer {
            result: result.into(),
            data_as_of: Some(prost_types::Timestamp::default()),
            valid_until: Some(google_type::Date { year: 2027, month: 1, day: 1 }),
            source: "registry".to_owned(),
            programmes: active.into_iter().collect(),
            ..Default::default()
        }),
        name_echo: keyed_digest(&KEY, "测试甲".as_bytes()).to_vec(),
        id_number_echo: keyed_digest(&KEY, b"11010519491231002X").to_vec(),
    }
}

fn check(response: proto::QueryLowIncomeResponse) -> Result<proto::LowIncomeAnswer, NoAnswer> {
    let asking =
        Asking { caller: CreditCode::parse("11320000MB151840XJ").unwrap(), asked: &asked(), today: TODAY };
    super::check::<LowIncome>(
        LowIncome::open(response),
        &vec![proto::Programme::MinimumAllowance.into()],
        asking,
        &KEY,
    )
}

#[test]
fn an_answer_about_another_person_is_never_a_match() {
    assert!(check(answered(proto::VerificationResult::Match)).is_ok());
    let mut other_name = answered(proto::VerificationResult::Match);
    other_name.name_echo = keyed_digest(&KEY, "测试乙".as_bytes()).to_vec();
    assert_eq!(check(other_name).err(), Some(NoAnswer::SubjectMismatch));
    let mut no_echo = answered(proto::VerificationResult::NoMatch);
    no_echo.id_number_echo.clear();
    assert_eq!(check(no_echo).err(), Some(NoAnswer::SubjectMismatch));
}

#[test]
fn an_incomplete_answer_is_malformed() {
    let malformed = Some(NoAnswer::RegistryAnswerMalformed);
    let mut no_date = answered(proto::VerificationResult::Match);
    no_date.answer.as_mut().unwrap().valid_until = None;
    assert_eq!(check(no_date).err(), malformed);
    assert_eq!(check(answered(proto::VerificationResult::Unspecified)).err(), malformed);
    assert_eq!(check(answered(proto::VerificationResult::Ambiguous)).err(), malformed);
    let mut figure_without_line = answered(proto::VerificationResult::Match);
    figure_without_line.answer.as_mut().unwrap().income_band = 1;
    assert_eq!(check(figure_without_line).err(), malformed);
}

#[test]
fn an_answer_that_contradicts_itself_or_has_run_out_is_malformed() {
    use proto::VerificationResult as R;
    let malformed = Some(NoAnswer::RegistryAnswerMalformed);
    let changed = |result, change: fn(&mut proto::LowIncomeAnswer)| {
        let mut response = answered(result);
        change(response.answer.as_mut().unwrap());
        check(response).err()
    };
    let stopped = |answer: &mut proto::LowIncomeAnswer| answer.programmes[0].status = 2;
    assert_eq!(changed(R::Match, stopped), malformed);
    assert_eq!(changed(R::Match, |answer| answer.programmes.clear()), malformed);
    assert_eq!(changed(R::Match, |answer| answer.programmes[0].programme = 2), malformed, "not asked");
    let run_out = |answer: &mut proto::LowIncomeAnswer| answer.valid_until.as_mut().unwrap().year = 2025;
    assert_eq!(changed(R::Match, run_out), malformed);
    let no_date = |answer: &mut proto::LowIncomeAnswer| answer.valid_until = Some(Default::default());
    assert_eq!(changed(R::NoMatch, no_date), malformed);
    assert_eq!(changed(R::Match, |answer| answer.income_band = 77), malformed);
    let active = |answer: &mut proto::LowIncomeAnswer| {
        answer.programmes.push(proto::ProgrammeStatus { programme: 1, status: 1, ..Default::default() });
    };
    assert_eq!(changed(R::NoMatch, active), malformed);
}

fn registered() -> proto::PovertyHouseholdAnswer {
    let day = |year| Some(google_type::Date { year, month: 1, day: 1 });
    proto::PovertyHouseholdAnswer {
        result: proto::VerificationResult::Match.into(),
        kind: proto::PovertyHouseholdKind::Edge.into(),
        risk: proto::PovertyRisk::Removed.into(),
        identified_on: day(2021),
        removed_on: day(2023),
        village_code: "331004101201".to_owned(),
        data_as_of: Some(prost_types::Timestamp::default()),
        valid_until: day(2027),
        source: "registry".to_owned(),
        ..Default::default()
    }
}

fn check_registered(
    answer: proto::PovertyHouseholdAnswer,
    name: &str,
) -> Result<proto::PovertyHouseholdAnswer, NoAnswer> {
    let caller = CreditCode::parse("11320000MB151840XJ").unwrap();
    let echoed = Echoed {
        answer: Some(answer),
        name: keyed_digest(&KEY, name.as_bytes()).to_vec(),
        id_number: keyed_digest(&KEY, b"11010519491231002X").to_vec(),
    };
    super::check::<PovertyHousehold>(echoed, &(), Asking { caller, asked: &asked(), today: TODAY }, &KEY)
}

#[test]
fn a_poverty_household_has_its_kind_risk_village_and_days() {
    assert!(check_registered(registered(), "测试甲").is_ok());
    assert_eq!(check_registered(registered(), "测试乙").err(), Some(NoAnswer::SubjectMismatch));
    let faults: [fn(&mut proto::PovertyHouseholdAnswer); 10] = [
        |answer| answer.kind = 0,
        |answer| answer.kind = 77,
        |answer| answer.risk = 0,
        |answer| answer.identified_on = None,
        |answer| answer.removed_on = None,
        |answer| answer.removed_on.as_mut().unwrap().year = 2020,
        |answer| answer.risk = proto::PovertyRisk::Open.into(),
        |answer| answer.village_code = "3310041012".to_owned(),
        |answer| answer.result = proto::VerificationResult::NoMatch.into(),
        |answer| answer.valid_until = None,
    ];
    for (place, fault) in faults.iter().enumerate() {
        let mut answer = registered();
        fault(&mut answer);
        let refused = check_registered(answer, "测试甲").err();
        assert_eq!(refused, Some(NoAnswer::RegistryAnswerMalformed), "fault {place}");
    }
}

#[test]
fn a_certificate_that_has_run_out_or_a_programme_told_twice_is_no_match() {
    use proto::VerificationResult as R;
    let day = |year, month, day| Some(google_type::Date { year, month, day });
    let with = |change: &dyn Fn(&mut proto::LowIncomeAnswer)| {
        let mut response = answered(R::Match);
        change(response.answer.as_mut().unwrap());
        check(response).err()
    };
    let malformed = Some(NoAnswer::RegistryAnswerMalformed);
    assert_eq!(with(&|answer| answer.programmes[0].valid_to = day(2026, 3, 2)), None, "the last day");
    assert_eq!(with(&|answer| answer.programmes[0].valid_to = day(2026, 3, 1)), malformed);
    assert_eq!(with(&|answer| answer.programmes[0].valid_from = day(2026, 3, 2)), None, "the first day");
    assert_eq!(with(&|answer| answer.programmes[0].valid_from = day(2026, 3, 3)), malformed);
    assert_eq!(with(&|answer| answer.programmes[0].valid_to = day(2026, 2, 30)), malformed);
    let stopped_too = |answer: &mut proto::LowIncomeAnswer| {
        answer.programmes.push(proto::ProgrammeStatus { programme: 1, status: 2, ..Default::default() });
    };
    assert_eq!(with(&stopped_too), malformed);
}

#[test]
fn an_answer_that_is_not_checked_against_the_person_says_nothing_of_a_household() {
    use proto::VerificationResult as R;
    for result in [R::Unavailable, R::Ambiguous, R::Refused] {
        let mut response = answered(R::Match);
        let answer = response.answer.as_mut().unwrap();
        answer.result = result.into();
        answer.reason = "BUSY".to_owned();
        assert_eq!(
            check(response.clone()).err(),
            Some(NoAnswer::RegistryAnswerMalformed),
            "{}",
            result.as_str_name()
        );
        response.answer.as_mut().unwrap().programmes.clear();
        assert!(check(response).is_ok(), "{}", result.as_str_name());
        let of_household = proto::PovertyHouseholdAnswer {
            result: result.into(),
            reason: "BUSY".to_owned(),
            ..registered()
        };
        let refused = check_registered(of_household, "测试甲").err();
        assert_eq!(refused, Some(NoAnswer::RegistryAnswerMalformed), "{}", result.as_str_name());
    }
}

#[test]
fn a_reason_is_a_word_and_never_a_persons_name() {
    use proto::VerificationResult as R;
    let reasons = [("BUSY", true), ("测试甲 is not here", false), ("=1+1", false), ("", false)];
    for (reason, is_sound) in reasons {
        let mut response = answered(R::Refused);
        response.answer.as_mut().unwrap().reason = reason.to_owned();
        assert_eq!(check(response).is_ok(), is_sound, "{reason}");
    }
    let mut response = answered(R::NoMatch);
    response.answer.as_mut().unwrap().reason = "测试乙".to_owned();
    assert_eq!(check(response).err(), Some(NoAnswer::RegistryAnswerMalformed));
}
