//! The registers, each with its question and its answer.

use jiff::Timestamp;
use jiff::civil::Date;
use tonic::transport::Channel;

use super::disclosure::{OF_LOW_INCOME, OF_POVERTY_HOUSEHOLDS};
use super::{Echoed, Register, Withholdable};
use crate::domain::agency::AgencyKind;
use crate::domain::eligibility::Programme;
use crate::domain::region::VillageCode;
use crate::domain::verification::HouseholdQuery;
use crate::domain::violation::Violations;
use crate::grpc::proto;
use crate::grpc::proto::registry_service_client::RegistryServiceClient;
use crate::grpc::proto::verification_outcome;
use crate::grpc::wire::{civil_date, low_income_query, poverty_household_query, programme_on_wire};

/// The low-income register of civil affairs.
pub(crate) struct LowIncome;

/// The rural-revitalisation organ's register of poverty households.
pub(crate) struct PovertyHousehold;

/// What is written alike for every register, but for the names of its messages.
macro_rules! messages {
    ($query:ident, $question:ident, $answered:ident, $answer:ident, $call:ident, $arm:ident) => {
        type Query = proto::$query;
        type Question = proto::$question;
        type Answered = proto::$answered;
        type Answer = proto::$answer;

        fn subject(query: &mut proto::$query) -> Option<&mut proto::Subject> {
            query.subject.as_mut()
        }

        fn question(envelope: proto::Envelope, query: proto::$query, echo_key: Vec<u8>) -> proto::$question {
            proto::$question { envelope: Some(envelope), query: Some(query), echo_key }
        }

        fn parts(question: proto::$question) -> (Option<proto::Envelope>, Option<proto::$query>) {
            (question.envelope, question.query)
        }

        async fn call(
            mut client: RegistryServiceClient<Channel>,
            request: tonic::Request<proto::$question>,
        ) -> Result<tonic::Response<proto::$answered>, tonic::Status> {
            client.$call(request).await
        }

        fn open(answered: proto::$answered) -> Echoed<proto::$answer> {
            Echoed { answer: answered.answer, name: answered.name_echo, id_number: answered.id_number_echo }
        }

        fn outcome(answer: proto::$answer) -> verification_outcome::Answer {
            verification_outcome::Answer::$arm(answer)
        }
    };
}

impl Register for LowIncome {
    const KEEPER: AgencyKind = AgencyKind::CivilAffairsRegistry;
    const ASKS: &'static str = "QueryLowIncome";
    /// The programmes asked about.
    type Terms = Vec<i32>;

    messages!(
        LowIncomeQuery,
        QueryLowIncomeRequest,
        QueryLowIncomeResponse,
        LowIncomeAnswer,
        query_low_income,
        LowIncome
    );

    fn read(
        violations: &mut Violations,
        query: Option<&proto::LowIncomeQuery>,
        now: Timestamp,
    ) -> Option<HouseholdQuery> {
        low_income_query(violations, query, now)
    }

    fn programmes(query: &proto::LowIncomeQuery) -> Vec<Programme> {
        query.programmes.iter().filter_map(|value| programme_of(*value)).collect()
    }

    fn leave_out_programmes(answer: &mut proto::LowIncomeAnswer, covers: &dyn Fn(Programme) -> bool) -> bool {
        let before = answer.programmes.len();
        answer.programmes.retain(|status| programme_of(status.programme).is_some_and(covers));
        answer.programmes.len() < before
    }

    fn withholdable() -> &'static [Withholdable<proto::LowIncomeAnswer>] {
        OF_LOW_INCOME
    }

    fn terms(question: &proto::QueryLowIncomeRequest) -> (Vec<u8>, Vec<i32>) {
        let programmes = question.query.as_ref().map(|query| query.programmes.clone());
        (question.echo_key.clone(), programmes.unwrap_or_default())
    }

    fn is_sound(answer: &proto::LowIncomeAnswer, programmes: &Vec<i32>, today: Date) -> bool {
        band_is_sound(answer)
            && programmes_are_sound(answer, today)
            && match proto::VerificationResult::try_from(answer.result) {
                Ok(proto::VerificationResult::Match) => has_active(answer, programmes),
                Ok(proto::VerificationResult::NoMatch) => !has_active(answer, programmes),
                _ => true,
            }
    }

    fn tells(answer: &proto::LowIncomeAnswer) -> bool {
        !answer.programmes.is_empty()
            || answer.household_size.is_some()
            || answer.income_band != 0
            || answer.line_fen.is_some()
    }
}

/// The programme of a number on the wire. One that is not known is of no agreement.
fn programme_of(value: i32) -> Option<Programme> {
    Programme::ALL.iter().copied().find(|known| programme_on_wire(*known).map(i32::from) == Some(value))
}

/// Each programme is told once, and one that is active has a certificate that holds today, where it has days.
fn programmes_are_sound(answer: &proto::LowIncomeAnswer, today: Date) -> bool {
    answer.programmes.iter().enumerate().all(|(place, told)| {
        let once = answer.programmes[..place].iter().all(|other| other.programme != told.programme);
        let (from, to) = (told.valid_from.as_ref().map(civil_date), told.valid_to.as_ref().map(civil_date));
        let holds = from.is_none_or(|from| from.is_some_and(|from| from <= today))
            && to.is_none_or(|to| to.is_some_and(|to| to >= today));
        once && (holds || told.status != proto::RegisterStatus::Active as i32)
    })
}

/// A band is against a line, and a line has a date.
fn band_is_sound(answer: &proto::LowIncomeAnswer) -> bool {
    let is_known = proto::IncomeBand::try_from(answer.income_band).is_ok();
    let has_band = answer.income_band != 0;
    let line_from = answer.line_in_force_from.as_ref().map(civil_date);
    is_known
        && answer.line_fen.is_some() == has_band
        && line_from.is_some() == has_band
        && line_from != Some(None)
}

/// Whether a programme that was asked about is active. A match without one is none.
fn has_active(answer: &proto::LowIncomeAnswer, asked: &[i32]) -> bool {
    answer.programmes.iter().any(|programme| {
        programme.status == proto::RegisterStatus::Active as i32 && asked.contains(&programme.programme)
    })
}

impl Register for PovertyHousehold {
    const KEEPER: AgencyKind = AgencyKind::PovertyRegistry;
    const ASKS: &'static str = "QueryPovertyHousehold";
    type Terms = ();

    messages!(
        PovertyHouseholdQuery,
        QueryPovertyHouseholdRequest,
        QueryPovertyHouseholdResponse,
        PovertyHouseholdAnswer,
        query_poverty_household,
        PovertyHousehold
    );

    fn read(
        violations: &mut Violations,
        query: Option<&proto::PovertyHouseholdQuery>,
        now: Timestamp,
    ) -> Option<HouseholdQuery> {
        poverty_household_query(violations, query, now)
    }

    fn programmes(_: &proto::PovertyHouseholdQuery) -> Vec<Programme> {
        vec![Programme::PovertyHousehold]
    }

    /// It keeps one only, without which it is not asked.
    fn leave_out_programmes(_: &mut proto::PovertyHouseholdAnswer, _: &dyn Fn(Programme) -> bool) -> bool {
        false
    }

    fn withholdable() -> &'static [Withholdable<proto::PovertyHouseholdAnswer>] {
        OF_POVERTY_HOUSEHOLDS
    }

    fn terms(question: &proto::QueryPovertyHouseholdRequest) -> (Vec<u8>, ()) {
        (question.echo_key.clone(), ())
    }

    fn is_sound(answer: &proto::PovertyHouseholdAnswer, (): &(), _: Date) -> bool {
        match proto::VerificationResult::try_from(answer.result) {
            Ok(proto::VerificationResult::Match) => is_registered(answer),
            // A household that is not on the register has no kind there, and no risk.
            Ok(proto::VerificationResult::NoMatch) => answer.kind == 0 && answer.risk == 0,
            _ => true,
        }
    }

    fn tells(answer: &proto::PovertyHouseholdAnswer) -> bool {
        answer.kind != 0
            || answer.risk != 0
            || answer.identified_on.is_some()
            || answer.removed_on.is_some()
            || answer.household_size.is_some()
            || !answer.village_code.is_empty()
    }
}

/// A household on the register has a kind, a risk, a village and the day it was identified; the day of removal
/// belongs to a removed risk.
fn is_registered(answer: &proto::PovertyHouseholdAnswer) -> bool {
    use proto::{PovertyHouseholdKind as Kind, PovertyRisk as Risk};
    let kind = Kind::try_from(answer.kind).unwrap_or_default();
    let risk = Risk::try_from(answer.risk).unwrap_or_default();
    let identified = answer.identified_on.as_ref().and_then(civil_date);
    let removed = answer.removed_on.as_ref().map(civil_date);
    let removal_is_sound = match (risk, removed) {
        (Risk::Removed, Some(Some(removed))) => identified.is_some_and(|identified| identified <= removed),
        (Risk::Removed, _) => false,
        (_, removed) => removed.is_none(),
    };
    kind != Kind::Unspecified
        && risk != Risk::Unspecified
        && identified.is_some()
        && removal_is_sound
        && VillageCode::parse(&answer.village_code).is_ok()
}
