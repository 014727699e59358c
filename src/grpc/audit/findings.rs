//! `ListFindings`: rules over a part of the log.
//!
//! A look reads the log in small pieces through the readers' connections and gives way between them, so that calls do not
//! wait for it; so many at once are made and no more, one for each agency that asks, so that whoever takes an answer
//! slowly keeps nobody else out.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Semaphore;

use super::context;
use crate::access::Method;
use crate::audit::entry::Entry;
use crate::audit::findings::{Detector, Finding, FindingId, Notice, Rule, Settings};
use crate::audit::log::Storage as _;
use crate::domain::agency::CreditCode;
use crate::domain::violation::Violations;
use crate::grpc::call::Call;
use crate::grpc::intake::streams::{Outgoing, Sending};
use crate::grpc::intake::{Intake, store_refusal};
use crate::grpc::operation::{Facts, Operation, Reading};
use crate::grpc::proto;
use crate::grpc::status::Refusal;
use crate::grpc::wire::timestamp;
use crate::store::{Mark, MarkRecord};

/// Looks at once: what each remembers takes memory.
const LOOKS_AT_ONCE: usize = 4;

/// Looks that read at once: the readers' connections are for calls first.
const READING_AT_ONCE: usize = 2;

/// Entries read at once.
const CHUNK: u32 = 512;

/// Entries between two signs of progress.
const PROGRESS_EVERY: u64 = 20 * CHUNK as u64;

/// Findings in one part of the answer.
const FINDINGS_IN_PART: usize = 100;

/// Days looked through where no begin is given.
const STANDARD_DAYS: i64 = 30;

/// The rules, and how many looks are made at once.
#[derive(Clone)]
pub struct FindingRules {
    settings: Arc<Settings>,
    looks: Looks,
    reading: Arc<Semaphore>,
}

impl FindingRules {
    /// Rules that are set so.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings: Arc::new(settings),
            looks: Looks::default(),
            reading: Arc::new(Semaphore::new(READING_AT_ONCE)),
        }
    }
}

/// The agencies that look through the log.
#[derive(Clone, Default)]
struct Looks(Arc<Mutex<BTreeSet<CreditCode>>>);

impl Looks {
    /// A place for a look of an agency, until it is dropped.
    fn begin(&self, agency: CreditCode) -> Result<Place, Refusal> {
        let mut agencies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if agencies.contains(&agency) {
            return Err(Refusal::AgencyOverloaded);
        }
        if agencies.len() >= LOOKS_AT_ONCE {
            return Err(Refusal::Overloaded);
        }
        agencies.insert(agency);
        Ok(Place { looks: self.clone(), agency })
    }
}

/// The place of one look.
struct Place {
    looks: Looks,
    agency: CreditCode,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.looks.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.agency);
    }
}

/// The method.
pub(super) struct ListFindings;

/// A list as asked for.
pub(super) struct List {
    rules: Vec<Rule>,
    from: Timestamp,
    before: Timestamp,
    place: Option<Place>,
}

impl Operation for ListFindings {
    const METHOD: Method = Method::ListFindings;
    type Request = proto::ListFindingsRequest;
    type Response = proto::ListFindingsResponse;
    type Task = List;

    fn read(request: Self::Request, reading: &mut Reading) -> Option<List> {
        context(reading, request.context.as_ref());
        let violations = &mut reading.violations;
        let before = instant(violations, "recorded_before", request.recorded_before.as_ref());
        let before = before.unwrap_or(reading.now);
        let days = SignedDuration::from_hours(24 * STANDARD_DAYS);
        let from = instant(violations, "recorded_from", request.recorded_from.as_ref());
        let from = from.or_else(|| before.checked_sub(days).ok()).unwrap_or(before);
        if from > before {
            violations.add(
                "recorded_from",
                "FROM_BEFORE_BEFORE",
                "must not be later than recorded_before",
                "起始时间不得晚于截止时间",
            );
        }
        let mut rules = Vec::new();
        for (place, name) in request.rules.iter().enumerate() {
            match Rule::parse(name) {
                Some(rule) => rules.push(rule),
                None => violations.add(
                    format!("rules[{place}]"),
                    "UNKNOWN_VALUE",
                    "not a rule that this version knows",
                    "无法识别的规则",
                ),
            }
        }
        if rules.is_empty() {
            rules = Rule::ALL.to_vec();
        }
        rules.sort_unstable();
        rules.dedup();
        Some(List { rules, from, before, place: None })
    }
}

impl Sending for ListFindings {
    async fn prepare(intake: &Intake, call: &Call, task: &mut List, _: &mut Facts) -> Result<(), Refusal> {
        task.place = Some(intake.findings.looks.begin(call.caller())?);
        Ok(())
    }

    async fn send(
        intake: &Arc<Intake>,
        call: &Call,
        task: List,
        facts: &Facts,
        out: &mut Outgoing<Self::Response>,
    ) -> Result<(), Refusal> {
        let mut look = Look::begin(intake, &task.rules, task.from, task.before).await?;
        loop {
            intake.may_go_on(call, Self::METHOD, facts)?;
            let is_complete = look.go_on(intake).await?;
            let mut notices = look.detector.take_notices();
            let findings = look.detector.take_findings();
            let mut parts: Vec<&[Finding]> = findings.chunks(FINDINGS_IN_PART).collect();
            if parts.is_empty() {
                parts.push(&[]);
            }
            let last = parts.len() - 1;
            for (place, part) in parts.into_iter().enumerate() {
                let mut on_wire = Vec::with_capacity(part.len());
                for finding in part {
                    let mark =
                        intake.store.mark_of(finding.id).await.map_err(|error| store_refusal(&error))?;
                    on_wire.push(finding_on_wire(finding, mark));
                }
                out.send(proto::ListFindingsResponse {
                    findings: on_wire,
                    progress: Some(look.progress(is_complete && place == last)),
                    notices: std::mem::take(&mut notices).iter().map(notice_on_wire).collect(),
                    audit: None,
                })
                .await?;
            }
            if is_complete {
                return Ok(());
            }
        }
    }
}

/// Looks for one finding: only by its rule, and only in its window. It remembers little, and waits for its turn to read.
pub(super) async fn find(intake: &Intake, id: FindingId) -> Result<Option<Finding>, Refusal> {
    let from = id.from();
    let mut look = Look::begin(intake, &[id.rule()], from, from).await?;
    while !look.go_on(intake).await? {}
    Ok(look.detector.take_findings().into_iter().find(|finding| finding.id == id))
}

/// A look through a part of the log.
struct Look {
    detector: Detector,
    first: u64,
    next: u64,
    /// Entries behind it are not under the checkpoint that the look began with.
    size: u64,
    until: Timestamp,
    latest: Timestamp,
    unreadable: u64,
    is_over: bool,
}

impl Look {
    async fn begin(
        intake: &Intake,
        rules: &[Rule],
        from: Timestamp,
        before: Timestamp,
    ) -> Result<Self, Refusal> {
        let size = intake.log.head().size;
        let settings = &intake.findings.settings;
        // A range without length is the instant at which it begins.
        let before = before.max(from.checked_add(SignedDuration::from_micros(1)).unwrap_or(from));
        let (first, until) = settings.span(rules, from, before);
        let first = first_recorded_at(intake, first, size).await?;
        Ok(Self {
            detector: Detector::new(settings, rules, intake.clocks.calendar(), from, before),
            first,
            next: first,
            size,
            until,
            latest: Timestamp::MIN,
            unreadable: 0,
            is_over: false,
        })
    }

    /// Looks at the next entries. Returns whether it has come to its end.
    async fn go_on(&mut self, intake: &Intake) -> Result<bool, Refusal> {
        // Not while the answer is taken: a slow reader holds no turn.
        let _turn = intake.findings.reading.acquire().await.map_err(|_| Refusal::Internal)?;
        let stop = self.size.min(self.next.saturating_add(PROGRESS_EVERY));
        while self.next < stop && !self.is_over {
            let chunk =
                intake.store.entries(self.next, CHUNK).await.map_err(|error| store_refusal(&error))?;
            if chunk.is_empty() {
                self.next = self.size;
            }
            for stored in chunk.into_iter().take_while(|stored| stored.index < self.size) {
                match Entry::from_json(&stored.entry) {
                    // A clock that was set back does not bring the look back into its range.
                    Ok(entry) if self.latest.max(entry.recorded) < self.until => {
                        self.latest = self.latest.max(entry.recorded);
                        self.detector.feed(stored.index, &entry);
                    }
                    Ok(entry) => {
                        // The first entry behind the range shows that its last windows are over.
                        self.detector.feed(stored.index, &entry);
                        self.is_over = true;
                    }
                    Err(_) => self.unreadable += 1,
                }
                self.next = stored.index + 1;
                if self.is_over {
                    break;
                }
            }
            tokio::task::yield_now().await;
        }
        if self.next >= self.size || self.is_over {
            self.detector.finish();
            return Ok(true);
        }
        Ok(false)
    }

    fn progress(&self, is_complete: bool) -> proto::FindingProgress {
        proto::FindingProgress {
            from_index: self.first,
            next_index: self.next,
            before_index: if self.is_over { self.next } else { self.size },
            unreadable: self.unreadable,
            is_complete,
        }
    }
}

/// The first entry that was recorded at or after an instant, by halving: entries are recorded in order, as long as the
/// clock was not set back.
async fn first_recorded_at(intake: &Intake, at: Timestamp, size: u64) -> Result<u64, Refusal> {
    let mut range = 0..size;
    while !range.is_empty() {
        // What was pruned between others says nothing; the next that can be read does.
        let found = intake.store.removable_entries(middle(&range), 1).await;
        let found = found.map_err(|error| store_refusal(&error))?;
        let readable = found.first().map(|stored| {
            let entry = Entry::from_json(&stored.entry);
            (stored.index, entry.is_ok_and(|entry| entry.recorded >= at))
        });
        range = halved(&range, readable);
    }
    Ok(range.start)
}

fn middle(range: &Range<u64>) -> u64 {
    range.start + (range.end - range.start) / 2
}

/// What is left of a range, by the first readable entry from its middle on: its index, and whether it lies behind what is
/// looked for or is that itself.
fn halved(range: &Range<u64>, readable: Option<(u64, bool)>) -> Range<u64> {
    match readable {
        Some((index, false)) if index < range.end => index + 1..range.end,
        _ => range.start..middle(range),
    }
}

fn instant(
    violations: &mut Violations,
    field: &str,
    value: Option<&prost_types::Timestamp>,
) -> Option<Timestamp> {
    let value = value?;
    let read = Timestamp::new(value.seconds, value.nanos).ok();
    if read.is_none() {
        violations.add(field, "TIMESTAMP", "not an instant", "时间无效");
    }
    read
}

fn finding_on_wire(finding: &Finding, mark: Option<MarkRecord>) -> proto::Finding {
    let about = finding.about.clone();
    proto::Finding {
        finding_id: finding.id.to_string(),
        rule: finding.rule.as_str().to_owned(),
        threshold: finding.threshold,
        observed: finding.observed,
        at_least: finding.at_least,
        window_from: Some(timestamp(finding.from)),
        window_before: Some(timestamp(finding.before)),
        caller: about.caller.unwrap_or_default(),
        unit: about.unit.unwrap_or_default(),
        operator: about.operator.unwrap_or_default(),
        matter_id: about.matter.unwrap_or_default(),
        subject: about.subject.unwrap_or_default(),
        node: about.node.unwrap_or_default(),
        entries: finding.entries.clone(),
        entry_count: finding.entry_count,
        is_estimate: finding.is_estimate,
        why: finding.rule.why().to_owned(),
        why_zh: finding.rule.why_zh().to_owned(),
        mark: mark.map(|mark| proto::FindingMark {
            mark: mark_on_wire(mark.mark).into(),
            comment: mark.comment,
            marked_by: mark.marked_by,
            unit: mark.unit,
            operator: mark.operator,
            mark_time: Some(timestamp(mark.at)),
            log_index: mark.request_index,
        }),
    }
}

/// A mark as the contract writes it.
pub(super) fn mark_on_wire(mark: Mark) -> proto::FindingMarkKind {
    match mark {
        Mark::Normal => proto::FindingMarkKind::Normal,
        Mark::Incident => proto::FindingMarkKind::Incident,
    }
}

fn notice_on_wire(notice: &Notice) -> proto::FindingNotice {
    match *notice {
        Notice::YearNotKnown(year) => {
            proto::FindingNotice { year_not_known: year.into(), ..Default::default() }
        }
        Notice::Crowded { rule, from, undercount } => proto::FindingNotice {
            crowded_rule: rule.as_str().to_owned(),
            window_from: Some(timestamp(from)),
            undercount,
            ..Default::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_slow_reader_keeps_nobody_out_but_its_own_agency() {
        let codes = ["11331000MB0000005D", "11331000MB0000007K"];
        let [slow, other] = codes.map(|code| CreditCode::parse(code).unwrap());
        let looks = Looks::default();
        let held = looks.begin(slow).ok().unwrap();
        assert!(matches!(looks.begin(slow), Err(Refusal::AgencyOverloaded)));
        drop(looks.begin(other).ok().unwrap());
        drop(held);
        assert!(looks.begin(slow).is_ok());
    }

    proptest! {
        #[test]
        fn no_readable_entry_is_passed_over_where_others_were_pruned(
            readable in prop::collection::btree_set(0u64..200, 0..60), at in 0u64..200, size in 0u64..200,
        ) {
            // Each entry was recorded at the moment of its index.
            let mut range = 0..size;
            while !range.is_empty() {
                let first = readable.range(middle(&range)..).next();
                range = halved(&range, first.map(|index| (*index, *index >= at)));
            }
            let wanted: BTreeSet<u64> = readable.iter().copied().filter(|index| (at..size).contains(index)).collect();
            let found: BTreeSet<u64> = readable.range(range.start..).copied().filter(|index| *index < size).collect();
            prop_assert_eq!(found, wanted);
        }
    }
}
