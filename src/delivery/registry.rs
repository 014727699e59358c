//! Asking a registry. Whatever goes wrong with it is a result, never an error: a machine does not refuse.

mod disclosure;
mod registers;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::civil::Date;
use prost::Message;
use tonic::transport::Channel;

pub(crate) use self::disclosure::withhold;
pub(crate) use self::registers::{LowIncome, PovertyHousehold};
use crate::access::Agency;
use crate::audit::entry::keyed_digest;
use crate::delivery::breaker::Failure;
use crate::delivery::peers::{self, Peers};
use crate::domain::agency::{AgencyKind, CreditCode};
use crate::domain::eligibility::Programme;
use crate::domain::verification::{AnswerField, HouseholdQuery, NoAnswer};
use crate::domain::violation::Violations;
use crate::entropy;
use crate::grpc::proto;
use crate::grpc::proto::registry_service_client::RegistryServiceClient;
use crate::grpc::proto::verification_outcome;
use crate::grpc::wire::{RegisterAnswer, civil_date};
use crate::telemetry::{Span, SpanKind, Trace};

/// Largest answer of a registry, in bytes.
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// Longest reason of a registry, in bytes.
const MAX_REASON_BYTES: usize = 64;

/// A register that can be asked: what its question and its answer hold. All else is common to the registers.
pub(crate) trait Register: Send + Sync + 'static {
    /// Who keeps it.
    const KEEPER: AgencyKind;
    /// The method by which it is asked.
    const ASKS: &'static str;
    /// What the centre asks.
    type Query: Message + Default + Clone;
    /// What the registry is asked.
    type Question: Message + Default;
    /// What the registry sends.
    type Answered: Send;
    /// What the centre gets of it.
    type Answer: RegisterAnswer;
    /// What of the question its answer is checked against.
    type Terms: Send + Sync;

    /// Reads a query.
    fn read(
        violations: &mut Violations,
        query: Option<&Self::Query>,
        now: Timestamp,
    ) -> Option<HouseholdQuery>;

    /// The programmes that a query asks about.
    fn programmes(query: &Self::Query) -> Vec<Programme>;

    /// The programmes that an answer tells of beside those that an agreement covers, taken out of it. Whether there were any.
    fn leave_out_programmes(answer: &mut Self::Answer, covers: &dyn Fn(Programme) -> bool) -> bool;

    /// The fields that an agreement may withhold of an answer, each with how it is taken out; that says whether it was there.
    fn withholdable() -> &'static [Withholdable<Self::Answer>];

    /// The person in a query.
    fn subject(query: &mut Self::Query) -> Option<&mut proto::Subject>;

    /// The question with a query in it.
    fn question(envelope: proto::Envelope, query: Self::Query, echo_key: Vec<u8>) -> Self::Question;

    /// The parts of a question.
    fn parts(question: Self::Question) -> (Option<proto::Envelope>, Option<Self::Query>);

    /// The key of a question's echo, and what its answer is checked against.
    fn terms(question: &Self::Question) -> (Vec<u8>, Self::Terms);

    /// Calls the registry.
    fn call(
        client: RegistryServiceClient<Channel>,
        request: tonic::Request<Self::Question>,
    ) -> impl Future<Output = Result<tonic::Response<Self::Answered>, tonic::Status>> + Send;

    /// What came back: the answer and the echoes of name and number.
    fn open(answered: Self::Answered) -> Echoed<Self::Answer>;

    /// Whether the fields of an answer with a match or none are there and agree with each other and with its result.
    fn is_sound(answer: &Self::Answer, terms: &Self::Terms, today: Date) -> bool;

    /// Whether an answer says anything of a household.
    fn tells(answer: &Self::Answer) -> bool;

    /// The answer in the message that brings it later.
    fn outcome(answer: Self::Answer) -> verification_outcome::Answer;
}

/// A field of an answer, and what takes it out and says whether it was there.
pub(crate) type Withholdable<A> = (AnswerField, fn(&mut A) -> bool);

/// An answer, and whom it is about by the registry's own word.
pub(crate) struct Echoed<A> {
    pub(crate) answer: Option<A>,
    pub(crate) name: Vec<u8>,
    pub(crate) id_number: Vec<u8>,
}

/// On whose behalf a registry is asked, and about whom.
#[derive(Clone, Copy)]
pub(crate) struct Asking<'q> {
    /// Who asks.
    pub(crate) caller: CreditCode,
    /// The question as read.
    pub(crate) asked: &'q HouseholdQuery,
    /// The day, in Asia/Shanghai.
    pub(crate) today: Date,
}

/// The trace that a question is part of, and when it goes out.
#[derive(Clone, Copy)]
pub(crate) struct Within<'t> {
    pub(crate) trace: &'t Trace,
    pub(crate) at: Timestamp,
}

/// The question for a registry. Name and number go out as they were read (trimmed, X in upper case), so that the
/// echo is of the same text.
pub(crate) fn question<R: Register>(
    envelope: proto::Envelope,
    mut query: R::Query,
    asked: &HouseholdQuery,
) -> R::Question {
    if let Some(subject) = R::subject(&mut query) {
        asked.subject.name.reveal().clone_into(&mut subject.name);
        asked.subject.id.reveal().clone_into(&mut subject.id_number);
    }
    let echo_key: [u8; 32] = entropy::bytes();
    R::question(envelope, query, echo_key.to_vec())
}

/// Asks `registry`, once: a question discloses whom it is about, so it is neither hedged nor sent again within a call.
///
/// # Errors
/// Why there is no usable answer: not asked ([`crate::delivery::breaker`]), unreachable, an error, malformed, or about
/// another person.
pub(crate) async fn ask<R: Register>(
    peers: &Peers,
    registry: &Agency,
    question: R::Question,
    asking: Asking<'_>,
    time_left: Duration,
    within: Within<'_>,
) -> Result<R::Answer, NoAnswer> {
    if time_left.is_zero() {
        return Err(NoAnswer::RegistryUnreachable);
    }
    let endpoint = registry.endpoint.as_ref().ok_or(NoAnswer::RegistryUnreachable)?;
    let channel = peers.channel(asking.caller, registry.code, endpoint).map_err(|error| {
        tracing::warn!(registry = %registry.code, %error, "registry cannot be dialled");
        NoAnswer::RegistryUnreachable
    })?;
    let passage = peers.breakers().pass(asking.caller, registry.code, R::KEEPER)?;
    let client = RegistryServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
    let (echo_key, terms) = R::terms(&question);
    let mut request = tonic::Request::new(question);
    request.set_timeout(time_left);
    let trace = within.trace.child();
    peers::trace(&mut request, &trace);
    let started = Instant::now();
    let answered = tokio::time::timeout(time_left, R::call(client, request)).await;
    let failure = match &answered {
        Ok(answered) => Failure::of(answered.as_ref().err(), started.elapsed()),
        Err(_) => Some(Failure::Silent(started.elapsed())),
    };
    passage.end(failure);
    let code = match &answered {
        Ok(Ok(_)) => tonic::Code::Ok,
        Ok(Err(status)) => status.code(),
        Err(_) => tonic::Code::DeadlineExceeded,
    };
    peers.traces().tell(&Span {
        trace: &trace,
        name: R::ASKS,
        service: "legalaid.exchange.v1.RegistryService",
        kind: SpanKind::Client,
        began: within.at,
        took: started.elapsed(),
        code: code as i32,
        words: &[],
    });
    let answered = match answered {
        Ok(Ok(answered)) => answered.into_inner(),
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
    check::<R>(R::open(answered), &terms, asking, &echo_key)
}

/// An answer counts only if it is complete, agrees with itself, and is about the person asked about.
pub(crate) fn check<R: Register>(
    echoed: Echoed<R::Answer>,
    terms: &R::Terms,
    asking: Asking<'_>,
    echo_key: &[u8],
) -> Result<R::Answer, NoAnswer> {
    use proto::VerificationResult as Result;
    let Asking { asked, today, .. } = asking;
    let answer = echoed.answer.ok_or(NoAnswer::RegistryAnswerMalformed)?;
    let outline = answer.outline();
    let result = outline.result;
    let name = keyed_digest(echo_key, asked.subject.name.reveal().as_bytes());
    let id_number = keyed_digest(echo_key, asked.subject.id.reveal().as_bytes());
    let sound = !outline.source.is_empty()
        && is_word(outline.reason)
        && match result {
            Result::Unspecified => false,
            // Nobody's data comes with an answer that is about nobody.
            Result::Unavailable | Result::Ambiguous | Result::Refused => {
                !outline.reason.is_empty() && !R::tells(&answer)
            }
            // Such an answer carries the state of its data and its validity, and must hold today.
            Result::Match | Result::NoMatch => {
                let from = outline.valid_from.map(civil_date);
                outline.data_as_of.is_some()
                    && outline.valid_until.and_then(civil_date).is_some_and(|until| until >= today)
                    && from.is_none_or(|from| from.is_some_and(|from| from <= today))
                    && R::is_sound(&answer, terms, today)
            }
        };
    if !sound {
        return Err(NoAnswer::RegistryAnswerMalformed);
    }
    if result != Result::Unavailable && (echoed.name != name || echoed.id_number != id_number) {
        return Err(NoAnswer::SubjectMismatch);
    }
    Ok(answer)
}

/// Whether a reason is empty or a word in UPPER_SNAKE: it is shown and kept where no person's name may stand.
fn is_word(reason: &str) -> bool {
    let is_of_word = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    reason.len() <= MAX_REASON_BYTES && reason.bytes().all(is_of_word)
}

#[cfg(test)]
mod tests;
