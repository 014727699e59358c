//! Asking a registry. Whatever goes wrong with it is a result, never an error: a machine does not refuse.

use std::time::Duration;

use jiff::civil::Date;

use crate::access::Agency;
use crate::audit::entry::keyed_digest;
use crate::delivery::peers::Peers;
use crate::domain::agency::CreditCode;
use crate::domain::verification::{LowIncomeQuery, NoAnswer};
use crate::entropy;
use crate::grpc::proto;
use crate::grpc::proto::registry_service_client::RegistryServiceClient;
use crate::grpc::wire::civil_date;

/// Largest answer of a registry, in bytes.
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// On whose behalf a registry is asked, and about whom.
#[derive(Clone, Copy)]
pub(crate) struct Asking<'q> {
    /// Who asks.
    pub(crate) caller: CreditCode,
    /// The question as read.
    pub(crate) asked: &'q LowIncomeQuery,
    /// The day, in Asia/Shanghai.
    pub(crate) today: Date,
}

/// The question for a registry. Name and number go out as they were read (trimmed, X in upper case), so that the
/// echo is of the same text.
pub(crate) fn question(
    envelope: proto::Envelope,
    mut query: proto::LowIncomeQuery,
    asked: &LowIncomeQuery,
) -> proto::QueryLowIncomeRequest {
    if let Some(subject) = &mut query.subject {
        asked.subject.name.reveal().clone_into(&mut subject.name);
        asked.subject.id.reveal().clone_into(&mut subject.id_number);
    }
    let echo_key: [u8; 32] = entropy::bytes();
    proto::QueryLowIncomeRequest { envelope: Some(envelope), query: Some(query), echo_key: echo_key.to_vec() }
}

/// Asks `registry`.
///
/// # Errors
/// Why there is no usable answer: unreachable, an error, malformed, or about another person.
pub(crate) async fn query_low_income(
    peers: &Peers,
    registry: &Agency,
    question: proto::QueryLowIncomeRequest,
    asking: Asking<'_>,
    time_left: Duration,
) -> Result<proto::LowIncomeAnswer, NoAnswer> {
    if time_left.is_zero() {
        return Err(NoAnswer::RegistryUnreachable);
    }
    let endpoint = registry.endpoint.as_ref().ok_or(NoAnswer::RegistryUnreachable)?;
    let channel = peers.channel(asking.caller, registry.code, endpoint).map_err(|error| {
        tracing::warn!(registry = %registry.code, %error, "registry cannot be dialled");
        NoAnswer::RegistryUnreachable
    })?;
    let mut client = RegistryServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
    let echo_key = question.echo_key.clone();
    let programmes = question.query.as_ref().map(|query| query.programmes.clone()).unwrap_or_default();
    let mut request = tonic::Request::new(question);
    request.set_timeout(time_left);
    let response = match tokio::time::timeout(time_left, client.query_low_income(request)).await {
        Ok(Ok(response)) => response.into_inner(),
        // The status message is the registry's own text and might name a person: only its code is kept.
        Ok(Err(status)) => {
            tracing::warn!(registry = %registry.code, code = ?status.code(), "registry gave no answer");
            return Err(match status.code() {
                tonic::Code::Unavailable | tonic::Code::DeadlineExceeded | tonic::Code::Cancelled => {
                    NoAnswer::RegistryUnreachable
                }
                _ => NoAnswer::RegistryError,
            });
        }
        Err(_) => {
            tracing::warn!(registry = %registry.code, "registry did not answer in time");
            return Err(NoAnswer::RegistryUnreachable);
        }
    };
    check(response, &programmes, asking, &echo_key)
}

/// An answer counts only if it is complete, agrees with itself, and is about the person asked about.
fn check(
    response: proto::QueryLowIncomeResponse,
    programmes: &[i32],
    asking: Asking<'_>,
    echo_key: &[u8],
) -> Result<proto::LowIncomeAnswer, NoAnswer> {
    use proto::VerificationResult as R;
    let Asking { asked, today, .. } = asking;
    let answer = response.answer.ok_or(NoAnswer::RegistryAnswerMalformed)?;
    let result = R::try_from(answer.result).unwrap_or(R::Unspecified);
    let name = keyed_digest(echo_key, asked.subject.name.reveal().as_bytes());
    let id_number = keyed_digest(echo_key, asked.subject.id.reveal().as_bytes());
    let sound = !answer.source.is_empty()
        && band_is_sound(&answer)
        && match result {
            R::Unspecified => false,
            R::Unavailable | R::Ambiguous | R::Refused => !answer.reason.is_empty(),
            R::Match => is_dated(&answer, today) && has_active(&answer, programmes),
            R::NoMatch => is_dated(&answer, today) && !has_active(&answer, programmes),
        };
    if !sound {
        return Err(NoAnswer::RegistryAnswerMalformed);
    }
    if result != R::Unavailable && (response.name_echo != name || response.id_number_echo != id_number) {
        return Err(NoAnswer::SubjectMismatch);
    }
    Ok(answer)
}

/// Every answer carries the state of its data and its validity, and must hold today.
fn is_dated(answer: &proto::LowIncomeAnswer, today: Date) -> bool {
    let until = answer.valid_until.as_ref().and_then(civil_date);
    let from = answer.valid_from.as_ref().map(civil_date);
    answer.data_as_of.is_some()
        && until.is_some_and(|until| until >= today)
        && from.is_none_or(|from| from.is_some_and(|from| from <= today))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::person::{IdDocument, IdKind, PersonName};
    use crate::domain::region::RegionCode;
    use crate::domain::verification::Subject;

    const KEY: [u8; 32] = [9; 32];

    const TODAY: Date = Date::constant(2026, 3, 2);

    fn asked() -> LowIncomeQuery {
        LowIncomeQuery {
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
                valid_until: Some(crate::grpc::generated::google::r#type::Date {
                    year: 2027,
                    month: 1,
                    day: 1,
                }),
                source: "registry".to_owned(),
                programmes: active.into_iter().collect(),
                ..Default::default()
            }),
            name_echo: keyed_digest(&KEY, "测试甲".as_bytes()).to_vec(),
            id_number_echo: keyed_digest(&KEY, b"11010519491231002X").to_vec(),
        }
    }

    fn check(response: proto::QueryLowIncomeResponse) -> Result<proto::LowIncomeAnswer, NoAnswer> {
        let asking = Asking {
            caller: CreditCode::parse("11320000MB151840XJ").unwrap(),
            asked: &asked(),
            today: TODAY,
        };
        super::check(response, &[proto::Programme::MinimumAllowance.into()], asking, &KEY)
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
}
