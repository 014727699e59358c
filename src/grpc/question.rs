//! A question to a registry that the gateway asks within a call of another method. It has entries of its own, as if the
//! caller had asked it: REQUEST before it goes out, RESPONSE before its answer is used.

use prost::Message as _;

use super::call::Call;
use super::intake::{Intake, RESERVE, close_as_interrupted};
use super::operation::Facts;
use super::quota::refusal_of;
use super::status::Refusal;
use super::wire::shanghai_day;
use crate::access::{Agency, Method};
use crate::audit::entry::{Decision, Entry, Field, Phase, Salt};
use crate::audit::log::AppendError;
use crate::delivery::registry::{self, Register};
use crate::domain::verification::{AnswerField, HouseholdQuery, NoAnswer};
use crate::entropy;
use crate::store::{Effect, Rejection};

/// What a registry said, as far as the agreement discloses it, and where the log says so.
pub(crate) struct Answered<A> {
    pub(crate) answer: Result<A, NoAnswer>,
    pub(crate) withheld: Vec<AnswerField>,
    pub(crate) log_index: u64,
}

impl Intake {
    /// Asks a registry, as `method` would. `facts` name it as counterpart, and the agreement that allows the question.
    ///
    /// # Errors
    /// When the question or its answer cannot be witnessed, or nothing is left of the agreement's quota. Whatever the registry
    /// does is an answer.
    pub(crate) async fn ask<R: Register>(
        &self,
        call: &Call,
        method: Method,
        facts: Facts,
        registry: Agency,
        question: R::Question,
        asked: HouseholdQuery,
    ) -> Result<Answered<R::Answer>, Refusal> {
        let Some(request_id) = facts.request_id else { return Err(Refusal::Internal) };
        let salt = Salt(entropy::bytes());
        let mut request = of_method(method, self.entry(call, Phase::Request, &facts, &salt));
        request.decision = Some(Decision::Allow);
        request.request_commitment = Some(salt.commit(Field::Request, &question.encode_to_vec()));
        let mut response = of_method(method, self.response_entry(call, &facts, 0));
        let agreement = facts.allowed_by.clone().ok_or(Refusal::Internal)?;
        let counting = self.counting(call, &facts);
        let (log, peers, clock, call) =
            (self.log.clone(), self.peers.clone(), self.clock.clone(), call.clone());
        // In a task of its own: a call that ends early does not leave the question's REQUEST open.
        let task = tokio::spawn(async move {
            let window = match &counting {
                Some(Effect::CountUse(counted)) => counted.windows.first().cloned(),
                _ => None,
            };
            let index = match (log.append(request, salt, counting.into_iter().collect()).await, window) {
                (Ok(index), _) => index,
                (Err(AppendError::Rejected(Rejection::QuotaSpent)), Some(window)) => {
                    return Err(refusal_of(&agreement, &window, clock.now()));
                }
                (Err(error), _) => return Err(unwitnessed(&error)),
            };
            let today = shanghai_day(call.arrived());
            let asking = registry::Asking { caller: call.caller(), asked: &asked, today };
            let time_left = call.time_left().saturating_sub(RESERVE);
            let within = registry::Within { trace: call.trace(), at: clock.now() };
            let mut answer = registry::ask::<R>(&peers, &registry, question, asking, time_left, within).await;
            let withheld =
                answer.as_mut().map(|answer| registry::withhold::<R>(answer, &agreement)).unwrap_or_default();
            response.withheld = withheld.iter().map(|field| field.as_str().into()).collect();
            let salt = Salt(entropy::bytes());
            response.id = entropy::uuid_v7(clock.now());
            response.request_index = Some(index);
            response.duration_us = Some(call.elapsed_us());
            response.code = Some("OK".into());
            match &answer {
                Ok(answer) => {
                    response.response_commitment =
                        Some(salt.commit(Field::Response, &answer.encode_to_vec()));
                }
                Err(why) => response.reason = Some(why.as_str().into()),
            }
            match log.conclude(response.clone(), salt, Vec::new()).await {
                Ok(log_index) => Ok(Answered { answer, withheld, log_index }),
                Err(error) => {
                    // What it says of the answer is unwitnessed, like the answer itself.
                    let end = Entry { code: None, response_commitment: None, ..response };
                    close_as_interrupted(log, clock, call.caller(), request_id, index, end);
                    Err(unwitnessed(&error))
                }
            }
        });
        task.await.unwrap_or(Err(Refusal::Internal))
    }
}

/// The question's own method, in the place of the one within which it is asked.
fn of_method(method: Method, entry: Entry) -> Entry {
    Entry { service: method.service().into(), method: method.name().into(), ..entry }
}

fn unwitnessed<R>(error: &AppendError<R>) -> Refusal {
    match error {
        AppendError::Overloaded => Refusal::Overloaded,
        _ => Refusal::LogUnavailable,
    }
}
