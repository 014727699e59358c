//! The load generator: a closed loop, the same for every subject.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use legal_aid_gateway::grpc::proto::BatchVerifyRequest;
use legal_aid_gateway::grpc::proto::batch_verify_request::Question as BatchQuestion;
use legal_aid_gateway::grpc::proto::batch_verify_response::Result as BatchResult;
use legal_aid_gateway::grpc::proto::exchange_service_client::ExchangeServiceClient;
use legal_aid_gateway::grpc::proto::verification_service_client::VerificationServiceClient;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::message::{Question, Submission, is_match};
use crate::parties::{Certificates, Party, endpoint};

/// Longer than any answer should take, and shorter than the gateway's own limit.
const DEADLINE: Duration = Duration::from_secs(10);

/// How hard, and for how long.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Load {
    /// Connections to the subject.
    #[arg(long, default_value_t = 4)]
    pub(crate) connections: usize,
    /// Calls at once on each connection.
    #[arg(long, default_value_t = 16)]
    pub(crate) calls: usize,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 4.0)]
    pub(crate) seconds: f64,
    /// Seconds of the same load before them.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) warm_up: f64,
}

/// Which method is called.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Work {
    /// `VerifyLowIncome`.
    Verify,
    /// `SubmitExchange`, to a court that pulls.
    Submit,
    /// The same, to a court that is pushed to.
    SubmitToCourt,
    /// `BatchVerify`, one stream a connection, with as many questions waiting as the agreement allows.
    Batch,
}

impl Work {
    /// Its name on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Submit => "submit",
            Self::SubmitToCourt => "submit-to-court",
            Self::Batch => "batch",
        }
    }
}

/// What one run of the load generator found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Calls answered in the measured time, a second.
    pub(crate) requests_per_second: f64,
    /// Median time to the answer.
    pub(crate) p50_us: u32,
    /// 99th percentile of the same.
    pub(crate) p99_us: u32,
    /// Calls that failed, or were not answered with a match, at any time.
    pub(crate) errors: u64,
    /// The first of them.
    pub(crate) first_error: Option<String>,
    /// Calls answered with a match at any time, warm-up and end included.
    pub(crate) answered: u64,
    /// The highest index in the audit log among the answers.
    pub(crate) highest_log_index: u64,
}

/// Calls `target` until the time is over.
pub(crate) async fn run(
    certificates: &Certificates,
    target: SocketAddr,
    party: Party,
    work: Work,
    load: Load,
) -> Result<Outcome> {
    let question = Question::compose()?;
    let submission = match work {
        Work::SubmitToCourt => Submission::to(Party::Court.code(), &question)?,
        _ => Submission::compose(&question)?,
    };
    let dialler = certificates.dialler(Party::Centre)?;
    let endpoint = endpoint(target, party)?;
    let mut callers = Vec::with_capacity(load.connections);
    for _ in 0..load.connections {
        let channel = dialler.channel(&endpoint)?;
        let task = match work {
            // A batch's first call tells whether anything works at all.
            Work::Verify | Work::Batch => {
                Task::Verify(VerificationServiceClient::new(channel), Box::new(question.clone()))
            }
            Work::Submit | Work::SubmitToCourt => {
                Task::Submit(ExchangeServiceClient::new(channel), Box::new(submission.clone()))
            }
        };
        let mut caller = Caller { task, seen: Seen::default() };
        // A channel connects on first use: no handshake in the measured time, and a plain error if there is none.
        caller.call(None).await;
        if let Some(error) = caller.seen.first_error {
            anyhow::bail!("the first call failed: {error}");
        }
        callers.push(Caller { seen: Seen::default(), ..caller });
    }

    let begin = Instant::now() + Duration::from_secs_f64(load.warm_up);
    let window = Window { begin, end: begin + Duration::from_secs_f64(load.seconds) };
    let mut running = JoinSet::new();
    for caller in &callers {
        for _ in 0..load.calls {
            match work {
                Work::Batch => running.spawn(caller.clone().stream_until_the_end(window)),
                _ => running.spawn(caller.clone().call_until_the_end(window)),
            };
        }
    }
    let mut seen = Seen { answered: load.connections as u64, ..Seen::default() };
    while let Some(ended) = running.join_next().await {
        seen.add(ended.context("a caller panicked")?);
    }
    seen.sum_up(load.seconds)
}

/// The time in which an answer must come to be counted.
#[derive(Clone, Copy)]
struct Window {
    begin: Instant,
    end: Instant,
}

#[derive(Clone)]
struct Caller {
    task: Task,
    seen: Seen,
}

/// What is called, and with what.
#[derive(Clone)]
enum Task {
    Verify(VerificationServiceClient<Channel>, Box<Question>),
    Submit(ExchangeServiceClient<Channel>, Box<Submission>),
}

impl Task {
    /// Calls once. Returns where the answer's entry stands in the audit log, or what went wrong.
    async fn call(&mut self) -> Result<u64, String> {
        let audit = match self {
            Self::Verify(client, question) => {
                let answer = client
                    .verify_low_income(timed(question.ask()))
                    .await
                    .map_err(|status| refused(&status))?;
                let answer = answer.into_inner();
                if !is_match(&answer) {
                    let answer = answer.answer.unwrap_or_default();
                    return Err(format!("{} {}", answer.result().as_str_name(), answer.reason));
                }
                answer.audit
            }
            Self::Submit(client, submission) => {
                let answer = client
                    .submit_exchange(timed(submission.ask()))
                    .await
                    .map_err(|status| refused(&status))?;
                let answer = answer.into_inner();
                answer.exchange.ok_or("no exchange was opened")?;
                answer.audit
            }
        };
        Ok(audit.ok_or("no evidence")?.log_index)
    }
}

fn timed<M>(message: M) -> Request<M> {
    let mut request = Request::new(message);
    request.set_timeout(DEADLINE);
    request
}

fn refused(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

impl Caller {
    async fn call_until_the_end(mut self, window: Window) -> Seen {
        while Instant::now() < window.end {
            self.call(Some(window)).await;
        }
        self.seen
    }

    /// Asks on one stream as fast as it takes questions, and measures from handing one over to its answer.
    async fn stream_until_the_end(mut self, window: Window) -> Seen {
        let Task::Verify(mut client, question) = self.task else { return self.seen };
        let handed_over: Arc<Mutex<HashMap<String, Instant>>> = Arc::default();
        let (sender, questions) = mpsc::channel(1);
        let asking = tokio::spawn({
            let handed_over = Arc::clone(&handed_over);
            async move {
                let mut context = Some(question.context());
                while Instant::now() < window.end {
                    let ask = question.ask();
                    let id = ask.envelope.as_ref().map(|envelope| envelope.request_id.clone());
                    let item = BatchVerifyRequest {
                        context: context.take(),
                        question: Some(BatchQuestion::LowIncome(ask)),
                    };
                    let Ok(place) = sender.reserve().await else { return };
                    let mut waiting = handed_over.lock().unwrap_or_else(PoisonError::into_inner);
                    waiting.insert(id.unwrap_or_default(), Instant::now());
                    place.send(item);
                }
            }
        });
        let mut results = match client.batch_verify(ReceiverStream::new(questions)).await {
            Ok(results) => results.into_inner(),
            Err(status) => {
                self.seen.error(refused(&status));
                return self.seen;
            }
        };
        loop {
            let item = match results.message().await {
                Ok(Some(item)) => item,
                Ok(None) => break,
                Err(status) => {
                    self.seen.error(refused(&status));
                    break;
                }
            };
            let answered = Instant::now();
            let asked = handed_over.lock().unwrap_or_else(PoisonError::into_inner).remove(&item.request_id);
            let outcome = match (item.result, asked) {
                (Some(BatchResult::LowIncome(answer)), Some(asked)) if is_match(&answer) => {
                    Ok((asked, answer.audit.map_or(0, |audit| audit.log_index)))
                }
                _ => Err(format!("item {} was not answered with a match", item.number)),
            };
            match outcome {
                Ok((asked, index)) => self.seen.answered(window, asked, answered, index),
                Err(what) => self.seen.error(what),
            }
        }
        asking.abort();
        self.seen
    }

    async fn call(&mut self, window: Option<Window>) {
        let asked = Instant::now();
        let answer = self.task.call().await;
        let answered = Instant::now();
        match answer {
            Ok(index) => match window {
                Some(window) => self.seen.answered(window, asked, answered, index),
                None => self.seen.answered += 1,
            },
            Err(what) => self.seen.error(what),
        }
    }
}

/// What callers have seen. Every latency is kept, so that percentiles are exact.
#[derive(Clone, Default)]
struct Seen {
    latencies_us: Vec<u32>,
    errors: u64,
    first_error: Option<String>,
    answered: u64,
    highest_log_index: u64,
}

impl Seen {
    fn answered(&mut self, window: Window, asked: Instant, answered: Instant, log_index: u64) {
        self.answered += 1;
        self.highest_log_index = self.highest_log_index.max(log_index);
        if (window.begin..window.end).contains(&answered) {
            let micros = answered.duration_since(asked).as_micros();
            self.latencies_us.push(u32::try_from(micros).unwrap_or(u32::MAX));
        }
    }

    fn error(&mut self, what: String) {
        self.errors += 1;
        self.first_error.get_or_insert(what);
    }

    fn add(&mut self, mut other: Self) {
        self.latencies_us.append(&mut other.latencies_us);
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
        self.answered += other.answered;
        self.highest_log_index = self.highest_log_index.max(other.highest_log_index);
    }

    fn sum_up(mut self, seconds: f64) -> Result<Outcome> {
        let first_error = self.first_error.as_deref().unwrap_or("none");
        ensure!(!self.latencies_us.is_empty(), "no answer in the measured time; first error: {first_error}");
        self.latencies_us.sort_unstable();
        Ok(Outcome {
            requests_per_second: self.latencies_us.len() as f64 / seconds,
            p50_us: percentile(&self.latencies_us, 50),
            p99_us: percentile(&self.latencies_us, 99),
            errors: self.errors,
            first_error: self.first_error,
            answered: self.answered,
            highest_log_index: self.highest_log_index,
        })
    }
}

/// The smallest value that at least `percent` of all are not above.
pub(crate) fn percentile(sorted: &[u32], percent: usize) -> u32 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}
