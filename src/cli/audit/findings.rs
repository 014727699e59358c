//! `audit findings`.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Caller;
use super::filter::moment;
use crate::audit::findings::Rule;
use crate::cli::output::{explain, list, say, say_json};
use crate::client::AgencyClient;
use crate::clock::Clock;
use crate::domain::calendar::SHANGHAI;
use crate::grpc::proto;

/// A look through a large log takes minutes; the gateway ends it when it lives longer than a stream may.
const LONGEST_LOOK: Duration = Duration::from_secs(3600);

/// Arguments of `audit findings`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(in crate::cli) struct Findings {
    #[command(flatten)]
    caller: Caller,
    /// Windows that end after this: a time such as 2026-11-22T08:00:00+08:00, or a day, from its start in Asia/Shanghai;
    /// 30 days before --before when left out.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    from: Option<Timestamp>,
    /// Windows that begin before this time or day; now when left out.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    before: Option<Timestamp>,
    /// Only this rule; may be given more than once.
    #[arg(long = "rule", value_name = "RULE", value_parser = rule)]
    rules: Vec<Rule>,
    /// Leave out what is marked already.
    #[arg(long)]
    unmarked: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

const HELP: &str = "\
Rules: BULK_LOOK_UPS OUT_OF_HOURS NO_MATTER MATTER_CLOSED SUBJECT_ASKED_BY_MANY DENIAL_BURST INTERRUPTED CLOCK_BACKWARDS \
SILENCE. Thresholds stand in [findings] of the gateway's configuration; docs/findings.md has each rule with what else may \
explain what it finds. A finding is a question, not a verdict: mark it with `audit mark` once it is answered.";

impl Findings {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = AgencyClient::load(&self.caller.profile, Clock::system())?;
        let request = proto::ListFindingsRequest {
            context: Some(client.context(&self.caller.purpose)),
            recorded_from: self.from.map(crate::grpc::wire::timestamp),
            recorded_before: self.before.map(crate::grpc::wire::timestamp),
            rules: self.rules.iter().map(|rule| rule.as_str().to_owned()).collect(),
        };
        let parts = client.audit().list_findings(client.request(request, LONGEST_LOOK)).await;
        let mut parts = parts.map_err(|status| explain(&status))?.into_inner();
        let (mut findings, mut notices) = (Vec::new(), Vec::new());
        let mut progress = proto::FindingProgress::default();
        let bar = bar();
        while let Some(part) = parts.message().await.map_err(|status| explain(&status))? {
            findings.extend(part.findings);
            notices.extend(part.notices);
            if let Some(now) = part.progress {
                bar.set_length(now.before_index - now.from_index.min(now.before_index));
                bar.set_position(now.next_index - now.from_index.min(now.next_index));
                progress = now;
            }
        }
        bar.finish_and_clear();
        if !progress.is_complete {
            anyhow::bail!("the gateway ended before the whole range was looked through; try a shorter one");
        }
        if self.unmarked {
            findings.retain(|finding| finding.mark.is_none());
        }
        if self.json {
            say_json(&json!({
                "findings": findings.iter().map(finding_json).collect::<Vec<_>>(),
                "notices": notices.iter().map(notice_text).collect::<Vec<_>>(),
                "from_index": progress.from_index,
                "before_index": progress.before_index,
                "unreadable": progress.unreadable,
            }));
        } else {
            show(&findings, &notices, &progress);
        }
        Ok(())
    }
}

fn rule(text: &str) -> Result<Rule, String> {
    let found = Rule::parse(&text.to_uppercase().replace('-', "_"));
    let names: Vec<_> = Rule::ALL.iter().map(|rule| rule.as_str()).collect();
    found.ok_or_else(|| format!("one of {}", names.join(", ")))
}

fn bar() -> ProgressBar {
    // Hidden where standard error is no terminal.
    let bar = ProgressBar::new(0);
    let style = "{bar:40} {pos}/{len} entries  {eta} left";
    bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

fn show(findings: &[proto::Finding], notices: &[proto::FindingNotice], progress: &proto::FindingProgress) {
    if !findings.is_empty() {
        let mut rows = list(&["finding", "rule", "window", "about", "observed", "entries", "mark"]);
        for finding in findings {
            rows.add_row([
                finding.finding_id.clone(),
                finding.rule.clone(),
                window(finding),
                about(finding),
                observed(finding),
                entries(finding),
                finding.mark.as_ref().map(mark_text).unwrap_or_default(),
            ]);
        }
        say(rows);
    }
    let named: BTreeSet<&str> = findings.iter().map(|finding| finding.rule.as_str()).collect();
    for rule in named {
        let told = findings.iter().find(|finding| finding.rule == rule);
        if let Some(finding) = told {
            say(format_args!("{rule}: {}\n  {}", finding.why, finding.why_zh));
        }
    }
    for (finding, mark) in findings.iter().filter_map(|finding| Some((finding, finding.mark.as_ref()?))) {
        say(format_args!("{}: {}", finding.finding_id, one_line(&mark.comment)));
    }
    for notice in notices {
        say(format_args!("note: {}", notice_text(notice)));
    }
    if progress.unreadable > 0 {
        say(format_args!("note: {} entries could not be read and were left out", progress.unreadable));
    }
    let looked_at = progress.next_index - progress.from_index.min(progress.next_index);
    say(format_args!("{} finding(s) in {looked_at} entries", findings.len()));
}

fn window(finding: &proto::Finding) -> String {
    let (from, before) = (at(finding.window_from.as_ref()), at(finding.window_before.as_ref()));
    let shown = |at: Timestamp| SHANGHAI.to_datetime(at).strftime("%Y-%m-%d %H:%M").to_string();
    format!("{} to {}", shown(from), shown(before))
}

fn at(value: Option<&prost_types::Timestamp>) -> Timestamp {
    value.and_then(|at| Timestamp::new(at.seconds, at.nanos).ok()).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn about(finding: &proto::Finding) -> String {
    let parts = [
        ("agency", &finding.caller),
        ("unit", &finding.unit),
        ("operator", &finding.operator),
        ("matter", &finding.matter_id),
        ("subject", &finding.subject),
        ("node", &finding.node),
    ];
    let known = parts.into_iter().filter(|(_, value)| !value.is_empty());
    known.map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join("\n")
}

fn observed(finding: &proto::Finding) -> String {
    let unit = match Rule::parse(&finding.rule) {
        Some(Rule::Silence) => " min",
        Some(Rule::ClockBackwards) => " s",
        _ => "",
    };
    let least = if finding.at_least { "at least " } else { "" };
    let estimate = if finding.is_estimate { "\nby weekends alone" } else { "" };
    format!("{least}{}{unit} (from {}){estimate}", finding.observed, finding.threshold)
}

fn entries(finding: &proto::Finding) -> String {
    let shown: Vec<_> = finding.entries.iter().take(5).map(u64::to_string).collect();
    let more = finding.entry_count.saturating_sub(shown.len() as u64);
    if more > 0 { format!("{} and {more} more", shown.join(" ")) } else { shown.join(" ") }
}

fn mark_text(mark: &proto::FindingMark) -> String {
    let by = at(mark.mark_time.as_ref());
    let day = SHANGHAI.to_datetime(by).strftime("%Y-%m-%d %H:%M");
    format!("{}\nby {} {day}", mark_word(mark), mark.operator)
}

fn mark_word(mark: &proto::FindingMark) -> &'static str {
    match mark.mark() {
        proto::FindingMarkKind::Normal => "normal",
        proto::FindingMarkKind::Incident => "incident",
        proto::FindingMarkKind::Unspecified => "",
    }
}

/// A comment cannot forge further lines.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn notice_text(notice: &proto::FindingNotice) -> String {
    if notice.crowded_rule.is_empty() {
        let year = notice.year_not_known;
        format!(
            "the holidays of {year} are not known: its working days are by weekends alone ([clocks] holidays)"
        )
    } else {
        let from = SHANGHAI.to_datetime(at(notice.window_from.as_ref())).strftime("%Y-%m-%d %H:%M");
        let (rule, undercount) = (&notice.crowded_rule, notice.undercount);
        format!(
            "{rule}, window from {from}: more keys than are counted at once; counts may be {undercount} too low"
        )
    }
}

fn finding_json(finding: &proto::Finding) -> Value {
    let mark = finding.mark.as_ref().map(|mark| {
        json!({
            "mark": mark_word(mark),
            "comment": mark.comment,
            "marked_by": mark.marked_by,
            "unit": mark.unit,
            "operator": mark.operator,
            "at": at(mark.mark_time.as_ref()).to_string(),
            "log_index": mark.log_index,
        })
    });
    json!({
        "finding": finding.finding_id,
        "rule": finding.rule,
        "threshold": finding.threshold,
        "observed": finding.observed,
        "at_least": finding.at_least,
        "from": at(finding.window_from.as_ref()).to_string(),
        "before": at(finding.window_before.as_ref()).to_string(),
        "caller": finding.caller,
        "unit": finding.unit,
        "operator": finding.operator,
        "matter": finding.matter_id,
        "subject": finding.subject,
        "node": finding.node,
        "entries": finding.entries,
        "entry_count": finding.entry_count,
        "is_estimate": finding.is_estimate,
        "why": finding.why,
        "why_zh": finding.why_zh,
        "mark": mark,
    })
}
