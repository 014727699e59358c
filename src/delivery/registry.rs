//! Asking a registry. Whatever goes wrong with it is a result, never an error: a machine does not refuse.

use std::time::Duration;

use crate::access::Agency;
use crate::audit::entry::keyed_digest;
use crate::delivery::peers::Peers;
use crate::domain::verification::{LowIncomeQuery, NoAnswer};
use crate::entropy;
use crate::grpc::proto;
use crate::grpc::proto::registry_service_client::RegistryServiceClient;

/// Largest answer of a registry, in bytes.
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// Asks `registry` on behalf of the centre whose envelope and question these are.
///
/// # Errors
/// Why there is no usable answer: unreachable, an error, malformed, or about another person.
pub(crate) async fn query_low_income(
    peers: &Peers,
    registry: &Agency,
    envelope: proto::Envelope,
    question: proto::LowIncomeQuery,
    asked: &LowIncomeQuery,
    time_left: Duration,
) -> Result<proto::LowIncomeAnswer, NoAnswer> {
    let endpoint = registry.endpoint.as_ref().ok_or(NoAnswer::RegistryUnreachable)?;
    let channel = peers.channel(registry.code, endpoint).map_err(|error| {
        tracing::warn!(registry = %registry.code, %error, "registry cannot be dialled");
        NoAnswer::RegistryUnreachable
    })?;
    let mut client = RegistryServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
    let echo_key: [u8; 32] = entropy::bytes();
    let mut request = tonic::Request::new(proto::QueryLowIncomeRequest {
        envelope: Some(envelope),
        query: Some(question),
        echo_key: echo_key.to_vec(),
    });
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
    check(response, asked, &echo_key)
}

/// An answer counts only if it is complete and about the person asked about.
fn check(
    response: proto::QueryLowIncomeResponse,
    asked: &LowIncomeQuery,
    echo_key: &[u8; 32],
) -> Result<proto::LowIncomeAnswer, NoAnswer> {
    use proto::VerificationResult as R;
    let answer = response.answer.ok_or(NoAnswer::RegistryAnswerMalformed)?;
    let result = R::try_from(answer.result).unwrap_or(R::Unspecified);
    if result == R::Unspecified || answer.source.is_empty() {
        return Err(NoAnswer::RegistryAnswerMalformed);
    }
    if matches!(result, R::Match | R::NoMatch) {
        if answer.data_as_of.is_none() || answer.valid_until.is_none() {
            return Err(NoAnswer::RegistryAnswerMalformed);
        }
        if answer.line_fen.is_some() != (answer.income_band != 0) {
            return Err(NoAnswer::RegistryAnswerMalformed);
        }
    } else if answer.reason.is_empty() {
        return Err(NoAnswer::RegistryAnswerMalformed);
    }
    let name = keyed_digest(echo_key, asked.subject.name.reveal().as_bytes());
    let id_number = keyed_digest(echo_key, asked.subject.id.reveal().as_bytes());
    if result != R::Unavailable && (response.name_echo != name || response.id_number_echo != id_number) {
        return Err(NoAnswer::SubjectMismatch);
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::person::{IdDocument, IdKind, PersonName};
    use crate::domain::region::RegionCode;
    use crate::domain::verification::Subject;
    use jiff::civil::Date;

    const KEY: [u8; 32] = [9; 32];

    fn asked() -> LowIncomeQuery {
        let today = Date::constant(2026, 3, 2);
        LowIncomeQuery {
            subject: Subject {
                name: PersonName::parse("测试甲").unwrap(),
                id: IdDocument::parse(IdKind::ResidentId, "11010519491231002X", today).unwrap(),
                household_region: RegionCode::parse("331004").unwrap(),
            },
            as_of: today,
        }
    }

    fn answered(result: proto::VerificationResult) -> proto::QueryLowIncomeResponse {
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
                ..Default::default()
            }),
            name_echo: keyed_digest(&KEY, "测试甲".as_bytes()).to_vec(),
            id_number_echo: keyed_digest(&KEY, b"11010519491231002X").to_vec(),
        }
    }

    #[test]
    fn an_answer_about_another_person_is_never_a_match() {
        assert!(check(answered(proto::VerificationResult::Match), &asked(), &KEY).is_ok());
        let mut other_name = answered(proto::VerificationResult::Match);
        other_name.name_echo = keyed_digest(&KEY, "测试乙".as_bytes()).to_vec();
        assert_eq!(check(other_name, &asked(), &KEY).err(), Some(NoAnswer::SubjectMismatch));
        let mut no_echo = answered(proto::VerificationResult::NoMatch);
        no_echo.id_number_echo.clear();
        assert_eq!(check(no_echo, &asked(), &KEY).err(), Some(NoAnswer::SubjectMismatch));
    }

    #[test]
    fn an_incomplete_answer_is_malformed() {
        let malformed = Some(NoAnswer::RegistryAnswerMalformed);
        let mut no_date = answered(proto::VerificationResult::Match);
        no_date.answer.as_mut().unwrap().valid_until = None;
        assert_eq!(check(no_date, &asked(), &KEY).err(), malformed);
        assert_eq!(check(answered(proto::VerificationResult::Unspecified), &asked(), &KEY).err(), malformed);
        assert_eq!(check(answered(proto::VerificationResult::Ambiguous), &asked(), &KEY).err(), malformed);
        let mut figure_without_line = answered(proto::VerificationResult::Match);
        figure_without_line.answer.as_mut().unwrap().income_band = 1;
        assert_eq!(check(figure_without_line, &asked(), &KEY).err(), malformed);
    }
}
