//! Asking about many people on one stream, and going on where an earlier run stopped.

use std::collections::{BTreeMap, HashMap};
use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use prost::Message as _;
use serde_json::json;
use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::people::{self, Line};
use super::registers::{Register, Shown};
use super::results::{Results, Row};
use super::{Asking, registers};
use crate::cli::output::{explain, say, say_json, table};
use crate::client::AgencyClient;
use crate::grpc::proto;
use crate::grpc::proto::batch_verify_response::Result as Outcome;
use crate::grpc::wire::shanghai_day;

/// Questions that wait for the stream to take them.
const WAITING_QUESTIONS: usize = 16;

/// Streams that may break one after the other without a single result.
const MOST_BREAKS: u32 = 5;

/// Results between two lines of progress where there is no terminal.
const PER_LINE: u64 = 1000;

/// All that the questions are made of.
struct Plan<R: Register> {
    lines: Vec<Line>,
    request_ids: Vec<String>,
    envelope: proto::Envelope,
    query: R::Query,
    complete_later: bool,
}

impl<R: Register> Plan<R> {
    /// The question about the person at a place; without its id it makes that id.
    fn question(&self, place: usize) -> (proto::Envelope, R::Query) {
        let line = &self.lines[place];
        let (mut envelope, mut query) = (self.envelope.clone(), self.query.clone());
        if !line.matter.is_empty() {
            envelope.matter_id.clone_from(&line.matter);
        }
        R::about(&mut query, line.subject.clone(), &line.village_code);
        (envelope, query)
    }

    /// Gives each question the id that it has in every run.
    fn name(&mut self, results: &Results) {
        let ids = (0..self.lines.len()).map(|place| {
            let (envelope, query) = self.question(place);
            let line = self.lines[place].number.to_be_bytes();
            let later = [u8::from(self.complete_later)];
            let parts = [&line[..], &later, &envelope.encode_to_vec(), &query.encode_to_vec()];
            results.request_id(&parts.concat())
        });
        self.request_ids = ids.collect();
    }

    fn message(&self, place: usize) -> proto::BatchVerifyRequest {
        let (mut envelope, query) = self.question(place);
        envelope.request_id.clone_from(&self.request_ids[place]);
        let question = R::in_batch(envelope, query, self.complete_later);
        proto::BatchVerifyRequest { context: None, question: Some(question) }
    }
}

/// Asks about everybody in `csv` who has no result in `out`.
pub(super) async fn run<R: Register>(
    client: &AgencyClient,
    csv: &Path,
    out: &Path,
    asking: &Asking,
    envelope: proto::Envelope,
    query: R::Query,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let lines = people::read(csv, shanghai_day(client.now()))?;
    let mut results = Results::open(out)?;
    // The id of the template itself is never used: each question has its own.
    let envelope = proto::Envelope { request_id: String::new(), ..client.complete(envelope) };
    let complete_later = asking.complete_later;
    let mut plan = Plan::<R> { lines, request_ids: Vec::new(), envelope, query, complete_later };
    plan.name(&results);
    let mut counts = BTreeMap::new();
    let mut waiting = waiting(&plan, &results, &mut counts)
        .with_context(|| format!("{} belongs to other people or another question", out.display()))?;
    let (asked, earlier) = (waiting.len(), plan.lines.len() - waiting.len());
    let progress = Progress::new(plan.lines.len(), earlier);
    let plan = Arc::new(plan);
    let mut breaks = 0;
    while !waiting.is_empty() {
        let before = waiting.len();
        let mut run = Run { plan: &plan, results: &mut results, counts: &mut counts, progress: &progress };
        let broken = run.stream(client, &asking.purpose, &mut waiting).await?;
        if waiting.len() < before {
            breaks = 0;
        } else if !waiting.is_empty() {
            breaks += 1;
        }
        if breaks >= MOST_BREAKS {
            let why = broken.map(|status| explain(&status).to_string()).unwrap_or_default();
            let done = plan.lines.len() - waiting.len();
            bail!("{done} of {} are answered; the same command goes on from there\n{why}", plan.lines.len());
        }
        if !waiting.is_empty() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
    progress.end();
    if asking.json {
        let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        say_json(&json!({"asked": asked, "there_before": earlier, "results": counts, "took_ms": took_ms}));
    } else {
        let mut rows = table(&["result", "people"]);
        for (result, count) in &counts {
            rows.add_row([result, &count.to_string()]);
        }
        say(rows);
        let took = started.elapsed().as_secs_f64();
        say(format_args!("{asked} asked, {earlier} there before, {took:.1} s; results in {}", out.display()));
    }
    Ok(())
}

/// Who has no result yet. What is there must be a result of the same question.
fn waiting<R: Register>(
    plan: &Plan<R>,
    results: &Results,
    counts: &mut BTreeMap<String, u64>,
) -> anyhow::Result<Vec<usize>> {
    let mut places: HashMap<u64, usize> =
        plan.lines.iter().enumerate().map(|(place, line)| (line.number, place)).collect();
    for (line, request_id, result) in &results.there {
        let place = places.remove(line).with_context(|| format!("line {line} is not there, or twice"))?;
        if plan.request_ids[place] != *request_id {
            bail!("line {line} was asked another question; choose another --out");
        }
        *counts.entry(result.clone()).or_default() += 1;
    }
    let mut waiting: Vec<_> = places.into_values().collect();
    waiting.sort_unstable();
    Ok(waiting)
}

/// What the results of a stream go to.
struct Run<'r, R: Register> {
    plan: &'r Arc<Plan<R>>,
    results: &'r mut Results,
    counts: &'r mut BTreeMap<String, u64>,
    progress: &'r Progress,
}

impl<R: Register> Run<'_, R> {
    /// Asks on one stream about those who wait, and takes off who is answered. Returns why the stream broke.
    async fn stream(
        &mut self,
        client: &AgencyClient,
        purpose: &str,
        waiting: &mut Vec<usize>,
    ) -> anyhow::Result<Option<Status>> {
        let (questions, taken) = mpsc::channel(WAITING_QUESTIONS);
        let first = proto::BatchVerifyRequest { context: Some(client.context(purpose)), question: None };
        let (plan, places) = (Arc::clone(self.plan), waiting.clone());
        let asker = tokio::spawn(async move {
            let _ = questions.send(first).await;
            for place in places {
                // Fails when the stream is broken: the next one asks the rest.
                if questions.send(plan.message(place)).await.is_err() {
                    return;
                }
            }
        });
        let mut answered = vec![false; waiting.len()];
        let outcome = self.take(client, ReceiverStream::new(taken), waiting, &mut answered).await;
        asker.abort();
        let mut marks = answered.into_iter();
        waiting.retain(|_| !marks.next().unwrap_or(false));
        outcome
    }

    async fn take(
        &mut self,
        client: &AgencyClient,
        questions: ReceiverStream<proto::BatchVerifyRequest>,
        asked: &[usize],
        answered: &mut [bool],
    ) -> anyhow::Result<Option<Status>> {
        let mut stream = match client.verification().batch_verify(questions).await {
            Ok(stream) => stream.into_inner(),
            Err(status) => return passing(status).map(Some),
        };
        loop {
            let result = match stream.message().await {
                Ok(Some(result)) => result,
                Ok(None) => return Ok(None),
                Err(status) => return passing(status).map(Some),
            };
            let at = usize::try_from(result.number).unwrap_or(0).wrapping_sub(1);
            let (Some(place), Some(mark)) = (asked.get(at), answered.get_mut(at)) else {
                bail!("the gateway answered a question that was not asked");
            };
            let Some(shown) = shown::<R>(result.result)? else { continue };
            self.results.add(&row(self.plan, *place, &shown))?;
            *self.counts.entry(shown.result).or_default() += 1;
            *mark = true;
            self.progress.one_more();
        }
    }
}

/// A stream that broke is begun again; a refusal that will not pass ends the run.
fn passing(status: Status) -> anyhow::Result<Status> {
    use tonic_types::StatusExt as _;
    let details = status.get_error_details();
    let lasting = details.error_info().is_some()
        && matches!(
            status.code(),
            Code::InvalidArgument | Code::PermissionDenied | Code::Unauthenticated | Code::Unimplemented
        );
    if lasting { Err(explain(&status)) } else { Ok(status) }
}

/// What is to be written of a result; `None` where the question is to be asked again.
fn shown<R: Register>(outcome: Option<Outcome>) -> anyhow::Result<Option<Shown>> {
    let refusal = match outcome {
        Some(Outcome::Refusal(refusal)) => refusal,
        Some(outcome) => return Ok(R::of_batch(&outcome).map(|response| R::shown(&response))),
        None => return Ok(None),
    };
    let code = Code::from(i32::try_from(refusal.code).unwrap_or(2));
    match code {
        // Nobody else of this run may be asked either.
        Code::PermissionDenied | Code::Unauthenticated => {
            bail!("{}: {}", refusal.reason, refusal.description)
        }
        Code::InvalidArgument | Code::FailedPrecondition | Code::NotFound | Code::AlreadyExists
            if !refusal.may_retry =>
        {
            let broken = refusal.violations.iter().map(|found| format!("{} {}", found.field, found.rule));
            let parts: Vec<_> = std::iter::once(refusal.reason.clone()).chain(broken).collect();
            Ok(Some(Shown {
                result: "NOT_ASKED".to_owned(),
                reason: parts.join("; "),
                log_index: refusal.audit.map(|audit| audit.log_index),
                ..Shown::default()
            }))
        }
        _ => Ok(None),
    }
}

fn row<R: Register>(plan: &Plan<R>, place: usize, shown: &registers::Shown) -> Row {
    let details = shown.details.iter().map(|(name, value)| format!("{name} {value}"));
    let next = shown.next_steps.iter().map(|step| step.code.clone());
    Row {
        line: plan.lines[place].number,
        request_id: plan.request_ids[place].clone(),
        result: shown.result.clone(),
        reason: shown.reason.clone(),
        registry: shown.registry.clone(),
        detail: details.collect::<Vec<_>>().join("; "),
        valid_until: shown.valid_until.clone(),
        next: next.collect::<Vec<_>>().join(" "),
        log_index: shown.log_index.map(|index| index.to_string()).unwrap_or_default(),
    }
}

/// A bar on a terminal, a line now and then elsewhere.
struct Progress(ProgressBar);

impl Progress {
    fn new(all: usize, earlier: usize) -> Self {
        let bar = if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new(all as u64);
            let style = "{bar:40} {pos}/{len}  {per_sec}  {eta} left";
            // A template that cannot be read leaves the usual bar.
            bar.set_style(
                ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bar
        } else {
            let bar = ProgressBar::hidden();
            bar.set_length(all as u64);
            bar
        };
        bar.set_position(earlier as u64);
        bar.reset_eta();
        Self(bar)
    }

    fn one_more(&self) {
        self.0.inc(1);
        let done = self.0.position();
        if self.0.is_hidden() && done.is_multiple_of(PER_LINE) {
            eprintln!("{done} of {} answered", self.0.length().unwrap_or(done));
        }
    }

    fn end(&self) {
        self.0.finish_and_clear();
    }
}
