//! A load generator that does not wait: calls begin at a fixed rate, however late the answers are. A closed loop slows
//! down with what it measures, and never overloads it. The same generator finds the peak too, in a closed loop.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::lean::{End, Lines, Prepared};
use crate::load::{Work, percentile};
use crate::parties::Certificates;
use crate::processes::own_cpu_us;

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
    #[arg(long, default_value_t = 0.0)]
    pub(crate) rate: f64,
    /// Calls at once instead: one that ends lets the next begin.
    #[arg(long)]
    pub(crate) at_once: Option<usize>,
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
    /// From when the request was handed to its connection, which is not after it was on the wire.
    pub(crate) refused_p50_us: u32,
    pub(crate) refused_p99_us: u32,
    /// From when it was due, however late it began.
    pub(crate) refused_from_due_p99_us: u32,
    /// How late calls began: up to a tick as it is, and more where the generator itself had no processor.
    pub(crate) late_p99_us: u32,
    /// The part of a core that the generator took.
    pub(crate) generator_busy: f64,
    /// Calls that were due at the end, and found no connection with room for them.
    pub(crate) not_begun: u64,
    /// Where the entries of all answers stand in the log.
    pub(crate) answered_at: Vec<u64>,
    /// Where those of all refusals do.
    pub(crate) refused_at: Vec<u64>,
}

struct Seen {
    end: End,
    due: Instant,
    begun: Instant,
    ended: Instant,
}

/// Calls until the time is over, and waits for the last answer.
pub(crate) async fn run(certificates: &Certificates, role: OpenLoop) -> Result<Outcome> {
    let mut prepared = Prepared::compose(role.work)?;
    let mut lines = Lines::open(certificates, role.target, role.connections).await?;
    // Nothing that is done once is in the measured time.
    let first = lines.send(&mut prepared).context("no connection")?;
    if let End::Failed(why) = first.end().await.0 {
        bail!("the first call failed: {why}");
    }
    let (tell, mut told) = mpsc::unbounded_channel();
    let start = Instant::now();
    let begin = start + Duration::from_secs_f64(role.warm_up);
    let end = begin + Duration::from_secs_f64(role.seconds);
    let mut tally = Tally::of(begin..end);
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut scheduled = 0_u64;
    let mut due = VecDeque::new();
    let mut at_once = 0;
    let mut used = None;
    while Instant::now() < end {
        // Those that ended let others begin, in a closed loop at once.
        tokio::select! {
            biased;
            _ = ticks.tick() => {}
            Some(seen) = told.recv(), if role.at_once.is_some() => {
                at_once -= 1;
                tally.add(seen);
            }
        }
        while let Ok(seen) = told.try_recv() {
            at_once -= 1;
            tally.add(seen);
        }
        let now = Instant::now();
        if now >= begin && used.is_none() {
            used = Some(own_cpu_us().context("no /proc here")?);
        }
        match role.at_once {
            Some(most) => due.extend(std::iter::repeat_n(now, most.saturating_sub(at_once))),
            None => {
                let by_now = (start.elapsed().as_secs_f64() * role.rate) as u64;
                let at = |number| start + Duration::from_secs_f64(number as f64 / role.rate);
                due.extend((scheduled..by_now).map(at));
                scheduled = by_now;
            }
        }
        while let Some(next) = due.front().copied() {
            let Some(sent) = lines.send(&mut prepared) else { break };
            due.pop_front();
            at_once += 1;
            let tell = tell.clone();
            tokio::spawn(async move {
                let begun = sent.begun;
                let (end, ended) = sent.end().await;
                let _ = tell.send(Seen { end, due: next, begun, ended });
            });
        }
        if role.at_once.is_some() {
            due.clear();
        }
    }
    let used = own_cpu_us().context("no /proc here")? - used.context("it did not begin")?;
    drop(tell);
    while let Some(seen) = told.recv().await {
        tally.add(seen);
    }
    let outcome = tally.sum_up(role.seconds)?;
    Ok(Outcome { generator_busy: used as f64 / 1e6 / role.seconds, not_begun: due.len() as u64, ..outcome })
}

struct Tally {
    window: Range<Instant>,
    outcome: Outcome,
    answered_us: Vec<u32>,
    refused_us: Vec<u32>,
    refused_from_due_us: Vec<u32>,
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
            refused_from_due_us: Vec::new(),
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
            self.late_us.push(micros(seen.begun.duration_since(seen.due)));
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
                    self.refused_from_due_us.push(micros(seen.ended.duration_since(seen.due)));
                }
            }
            End::Failed(why) => {
                self.outcome.failed += 1;
                self.outcome.first_failure.get_or_insert(why);
            }
        }
    }

    fn sum_up(mut self, seconds: f64) -> Result<Outcome> {
        let Self { answered_us, refused_us, refused_from_due_us, late_us, .. } = &mut self;
        for times in [answered_us, refused_us, refused_from_due_us, late_us] {
            times.sort_unstable();
        }
        ensure!(self.in_time > 0, "no answer in the measured time: {:?}", self.outcome.first_failure);
        Ok(Outcome {
            answered_per_second: self.in_time as f64 / seconds,
            answered_p50_us: percentile(&self.answered_us, 50),
            answered_p99_us: percentile(&self.answered_us, 99),
            refused_p50_us: percentile(&self.refused_us, 50),
            refused_p99_us: percentile(&self.refused_us, 99),
            refused_from_due_p99_us: percentile(&self.refused_from_due_us, 99),
            late_p99_us: percentile(&self.late_us, 99),
            ..self.outcome
        })
    }
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}
