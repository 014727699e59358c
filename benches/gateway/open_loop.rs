//! A load generator that does not wait: calls begin at a fixed rate, however late the answers are. A closed loop slows
//! down with what it measures, and never overloads it.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use legal_aid_gateway::grpc::proto::exchange_service_client::ExchangeServiceClient;
use legal_aid_gateway::grpc::proto::verification_service_client::VerificationServiceClient;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::load::{Work, percentile};
use crate::message::{Question, Submission, is_match};
use crate::parties::{Certificates, Party, endpoint};

/// How long a caller waits.
const DEADLINE: Duration = Duration::from_secs(10);

/// How often calls begin: those that are due begin together.
const TICK: Duration = Duration::from_millis(1);

/// How the gateway is called.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct OpenLoop {
    #[arg(long)]
    pub(crate) target: SocketAddr,
    #[arg(long, value_enum)]
    pub(crate) work: Work,
    /// Calls a second.
    #[arg(long)]
    pub(crate) rate: f64,
    /// Seconds that are measured.
    #[arg(long)]
    pub(crate) seconds: f64,
    /// Seconds of the same load before them.
    #[arg(long)]
    pub(crate) warm_up: f64,
    /// Connections over which the calls are spread.
    #[arg(long)]
    pub(crate) connections: usize,
}

/// What came of it. Counts are of calls that began in the measured time, lists of all.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) begun: u64,
    pub(crate) answered: u64,
    /// Refused with `RESOURCE_EXHAUSTED`, a wait, and the index of an entry.
    pub(crate) refused: u64,
    /// Neither.
    pub(crate) failed: u64,
    pub(crate) first_failure: Option<String>,
    /// Answers that came in the measured time, a second.
    pub(crate) answered_per_second: f64,
    pub(crate) answered_p50_us: u32,
    pub(crate) answered_p99_us: u32,
    pub(crate) refused_p50_us: u32,
    pub(crate) refused_p99_us: u32,
    /// How late calls began, because the generator itself had no processor.
    pub(crate) late_p99_us: u32,
    /// Where the entries of all answers stand in the log.
    pub(crate) answered_at: Vec<u64>,
    /// Where those of all refusals do.
    pub(crate) refused_at: Vec<u64>,
}

enum End {
    Answered(u64),
    Refused(u64),
    Failed(String),
}

struct Seen {
    end: End,
    begun: Instant,
    late: Duration,
    ended: Instant,
}

/// Calls until the time is over, and waits for the last answer.
pub(crate) async fn run(certificates: &Certificates, role: OpenLoop) -> Result<Outcome> {
    let question = Question::compose()?;
    let submission = Arc::new(Submission::compose(&question)?);
    let question = Arc::new(question);
    let dialler = certificates.dialler(Party::Centre)?;
    let endpoint = endpoint(role.target, Party::Gateway)?;
    let mut channels = Vec::with_capacity(role.connections);
    for _ in 0..role.connections {
        let channel = dialler.channel(&endpoint)?;
        // No handshake in the measured time.
        if let End::Failed(why) = call(&channel, role.work, &question, &submission).await {
            bail!("the first call failed: {why}");
        }
        channels.push(channel);
    }
    let (tell, mut told) = mpsc::unbounded_channel();
    let start = Instant::now();
    let begin = start + Duration::from_secs_f64(role.warm_up);
    let end = begin + Duration::from_secs_f64(role.seconds);
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut next = 0_u64;
    while Instant::now() < end {
        ticks.tick().await;
        let due = (start.elapsed().as_secs_f64() * role.rate) as u64;
        while next < due {
            let scheduled = start + Duration::from_secs_f64(next as f64 / role.rate);
            let channel = channels[next as usize % channels.len()].clone();
            let (tell, question, submission) = (tell.clone(), Arc::clone(&question), Arc::clone(&submission));
            let work = role.work;
            tokio::spawn(async move {
                let begun = Instant::now();
                let end = call(&channel, work, &question, &submission).await;
                let late = begun.duration_since(scheduled);
                let _ = tell.send(Seen { end, begun, late, ended: Instant::now() });
            });
            next += 1;
        }
    }
    drop(tell);
    let mut tally = Tally::of(begin..end);
    while let Some(seen) = told.recv().await {
        tally.add(seen);
    }
    tally.sum_up(role.seconds)
}

/// Calls once.
async fn call(channel: &Channel, work: Work, question: &Question, submission: &Submission) -> End {
    let answer = match work {
        Work::Submit | Work::SubmitToCourt => {
            let call = timed(submission.ask());
            let answer = ExchangeServiceClient::new(channel.clone()).submit_exchange(call).await;
            answer.map(|answer| answer.into_inner().audit)
        }
        Work::Verify | Work::Batch => {
            let call = timed(question.ask());
            let answer = VerificationServiceClient::new(channel.clone()).verify_low_income(call).await;
            match answer {
                Ok(answer) if !is_match(answer.get_ref()) => {
                    return End::Failed(format!(
                        "no match: {}",
                        answer.into_inner().answer.unwrap_or_default().reason
                    ));
                }
                answer => answer.map(|answer| answer.into_inner().audit),
            }
        }
    };
    match answer {
        Ok(Some(audit)) => End::Answered(audit.log_index),
        Ok(None) => End::Failed("no evidence".to_owned()),
        Err(status) => refusal(&status),
    }
}

/// A refusal counts as one only with a wait and with evidence.
fn refusal(status: &Status) -> End {
    let index = status.metadata().get("audit-log-index").and_then(|value| value.to_str().ok()?.parse().ok());
    let wait = status.get_details_retry_info().and_then(|info| info.retry_delay);
    match (status.code(), wait, index) {
        (Code::ResourceExhausted, Some(_), Some(index)) => End::Refused(index),
        _ => End::Failed(format!("{:?}: {}", status.code(), status.message())),
    }
}

fn timed<M>(message: M) -> Request<M> {
    let mut request = Request::new(message);
    request.set_timeout(DEADLINE);
    request
}

struct Tally {
    window: Range<Instant>,
    outcome: Outcome,
    answered_us: Vec<u32>,
    refused_us: Vec<u32>,
    late_us: Vec<u32>,
    in_time: u64,
}

impl Tally {
    fn of(window: Range<Instant>) -> Self {
        Self {
            window,
            outcome: Outcome::default(),
            answered_us: Vec::new(),
            refused_us: Vec::new(),
            late_us: Vec::new(),
            in_time: 0,
        }
    }

    fn add(&mut self, seen: Seen) {
        let counts = self.window.contains(&seen.begun);
        let took = micros(seen.ended.duration_since(seen.begun));
        self.in_time += u64::from(matches!(seen.end, End::Answered(_)) && self.window.contains(&seen.ended));
        if counts {
            self.outcome.begun += 1;
            self.late_us.push(micros(seen.late));
        }
        match seen.end {
            End::Answered(index) => {
                self.outcome.answered_at.push(index);
                if counts {
                    self.outcome.answered += 1;
                    self.answered_us.push(took);
                }
            }
            End::Refused(index) => {
                self.outcome.refused_at.push(index);
                if counts {
                    self.outcome.refused += 1;
                    self.refused_us.push(took);
                }
            }
            End::Failed(why) => {
                self.outcome.failed += 1;
                self.outcome.first_failure.get_or_insert(why);
            }
        }
    }

    fn sum_up(mut self, seconds: f64) -> Result<Outcome> {
        for times in [&mut self.answered_us, &mut self.refused_us, &mut self.late_us] {
            times.sort_unstable();
        }
        ensure!(self.in_time > 0, "no answer in the measured time: {:?}", self.outcome.first_failure);
        Ok(Outcome {
            answered_per_second: self.in_time as f64 / seconds,
            answered_p50_us: percentile(&self.answered_us, 50),
            answered_p99_us: percentile(&self.answered_us, 99),
            refused_p50_us: percentile(&self.refused_us, 50),
            refused_p99_us: percentile(&self.refused_us, 99),
            late_p99_us: percentile(&self.late_us, 99),
            ..self.outcome
        })
    }
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}
