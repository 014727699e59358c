//! `eligibility`: assesses an application as a legal-aid centre, and shows the rules in force.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand};
use comfy_table::{ColumnConstraint, Table};
use jiff::civil::Date;
use serde_json::{Value, json};

use super::output::{explain_request, say, say_json, table};
use super::verify::{parse_basis, read_text};
use crate::client::AgencyClient;
use crate::clock::Clock;
use crate::config::read_rule_sets;
use crate::domain::eligibility::{IN_FORCE_FROM, LineInForce, Matter, Provenance, RulesInForce};
use crate::domain::region::RegionCode;
use crate::grpc::json::{from_json, to_json};
use crate::grpc::proto;
use crate::setup::purposes;

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Eligibility {
    /// Assess an application; the gateway asks registers where a claim needs it.
    ///
    /// Exit code 0 means that there is an assessment, whatever it recommends. None refuses: a person decides.
    Assess(Assess),
    /// Show the rules in force in a region on a day, with articles, sources and dates. Asks no gateway.
    Explain(Explain),
}

/// Arguments of `eligibility assess`.
#[derive(Debug, Args)]
pub(super) struct Assess {
    /// The centre's profile, as `init` makes it.
    #[arg(long = "as", value_name = "FILE", default_value = "centre.toml")]
    profile: PathBuf,
    /// The application: JSON of EligibilityCase, `-` for standard input.
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// The centre's number of the matter.
    #[arg(long)]
    matter: String,
    /// Region of the matter, whose rules count; without it the profile's.
    #[arg(long, value_name = "CODE", default_value = "")]
    region: String,
    /// Purpose code of the agreement.
    #[arg(long, default_value = purposes::AID_ELIGIBILITY)]
    purpose: String,
    /// Legal basis as LAW:ARTICLE; may be given several times.
    #[arg(long = "basis", value_name = "LAW:ARTICLE", default_value = "法律援助法:41")]
    bases: Vec<String>,
    /// Request id of an earlier call, to get its answer again.
    #[arg(long, value_name = "UUID", default_value = "")]
    request_id: String,
    /// The applicant is a minor under 14.
    #[arg(long)]
    minor_under_14: bool,
    /// Seconds to wait for an answer.
    #[arg(long, default_value_t = 10)]
    deadline: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `eligibility explain`.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// The region (GB/T 2260, six digits).
    #[arg(long, value_name = "CODE", value_parser = RegionCode::parse)]
    region: RegionCode,
    /// The day, such as 2025-06-01.
    #[arg(long, value_name = "DATE")]
    on: Date,
    /// A folder of rule sets beside the built-in ones, as eligibility.rules names it in gateway.toml.
    #[arg(long, value_name = "FOLDER")]
    rules: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Eligibility {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Assess(arguments) => arguments.run().await,
            Self::Explain(arguments) => arguments.run(),
        }
    }
}

impl Assess {
    async fn run(self) -> anyhow::Result<()> {
        let client = AgencyClient::load(&self.profile, Clock::system())?;
        let case: proto::EligibilityCase = from_json("EligibilityCase", &read_text(&self.file)?)
            .with_context(|| format!("{} is not JSON of EligibilityCase", self.file.display()))?;
        let envelope = client.complete(proto::Envelope {
            request_id: self.request_id,
            matter_id: self.matter,
            kind: proto::Kind::LowIncomeQuery.into(),
            region: self.region,
            legal_basis: self.bases.iter().map(|basis| parse_basis(basis)).collect::<Result<_, _>>()?,
            purpose: self.purpose,
            classification: Some(proto::Classification {
                sensitive: Some(true),
                minor_under_14: Some(self.minor_under_14),
            }),
            ..Default::default()
        });
        let request_id = envelope.request_id.clone();
        let request =
            proto::AssessEligibilityRequest { envelope: Some(envelope), eligibility_case: Some(case) };
        let request = client.request(request, Duration::from_secs(self.deadline));
        let response = client.eligibility().assess_eligibility(request).await;
        let response = response.map_err(|status| explain_request(&status, &request_id))?.into_inner();
        if self.json {
            say_json(&to_json("AssessEligibilityResponse", &response)?);
        } else {
            show(&response, &request_id);
        }
        Ok(())
    }
}

fn show(response: &proto::AssessEligibilityResponse, request_id: &str) {
    let short = |name: &str, prefix: &str| name.trim_start_matches(prefix).to_owned();
    let outcome = proto::EligibilityOutcome::try_from(response.outcome).unwrap_or_default();
    let mut summary = table(&["", ""]);
    summary.add_row(["outcome", &short(outcome.as_str_name(), "ELIGIBILITY_OUTCOME_")]);
    for register in &response.registers {
        let result = proto::VerificationResult::try_from(register.result).unwrap_or_default();
        let result = short(result.as_str_name(), "VERIFICATION_RESULT_");
        summary.add_row(["register", format!("{} {result} {}", register.registry, register.reason).trim()]);
    }
    for due in &response.due {
        let by = due.due_on.as_ref();
        let by = by.map(|day| format!(" by {:04}-{:02}-{:02}", day.year, day.month, day.day));
        let by = by.unwrap_or_default();
        summary
            .add_row(["due", &format!("{}{by}: {} ({})\n{}", due.code, due.text, due.article, due.text_zh)]);
    }
    summary.add_row(["request id", request_id]);
    if let Some(audit) = &response.audit {
        summary.add_row(["audit log index", &audit.log_index.to_string()]);
    }
    say(summary);
    let mut rules = table(&["rule", "verdict", "by", "would change it"]);
    keep_whole(&mut rules, &[0, 1]);
    for rule in &response.rules {
        let verdict = proto::RuleVerdict::try_from(rule.verdict).unwrap_or_default();
        let inputs = rule.inputs.iter().map(|input| format!("{} = {}", input.name, input.value));
        let mut by: Vec<_> = inputs.collect();
        if !rule.source.is_empty() {
            by.push(format!("[{}] {}", rule.mark, rule.source));
        }
        rules.add_row([
            format!("{}\n{}", rule.rule, rule.article),
            short(verdict.as_str_name(), "RULE_VERDICT_"),
            by.join("\n"),
            format!("{}\n{}", rule.would_change, rule.would_change_zh),
        ]);
    }
    say(rules);
}

impl Explain {
    fn run(self) -> anyhow::Result<()> {
        ensure!(self.on >= IN_FORCE_FROM, "法律援助法 is in force since {IN_FORCE_FROM}");
        let sets = read_rule_sets(self.rules.as_deref())?;
        let rows = explained(&sets.in_force(self.region, self.on));
        if self.json {
            let rules: Vec<_> = rows.iter().map(Row::json).collect();
            say_json(&json!({"region": self.region, "on": self.on, "rules": rules}));
            return Ok(());
        }
        let mut shown = table(&["rule", "what", "in force", "source"]);
        keep_whole(&mut shown, &[0, 2]);
        for row in &rows {
            shown.add_row(row.cells());
        }
        say(shown);
        say(MARKS);
        if !rows.iter().any(|row| row.rule == "income-line") {
            say(
                "No line is in force here on this day: an undertaking (法律援助法 art 41) and a person establish hardship.",
            );
            say("当日没有适用的经济困难标准：由个人诚信承诺（法律援助法第四十一条）和工作人员认定。");
        }
        Ok(())
    }
}

const MARKS: &str = "\
The rules are tried in this order; no outcome refuses, a person decides.
规则按上列顺序适用；系统不作不予援助的结论，由工作人员决定。
[C] primary text 已核对原文 · [C2] secondary source 二手资料 · [M] unverified or example 未核实或示例";

/// Never breaks the cells of these columns: ids and dates in them can be copied.
fn keep_whole(table: &mut Table, columns: &[usize]) {
    for column in columns {
        if let Some(column) = table.column_mut(*column) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
}

/// One rule as it is shown.
struct Row {
    rule: String,
    what: String,
    article: String,
    /// Set, area, dates, source and mark of a rule of a rule set.
    about: Option<Provenance>,
}

impl Row {
    fn by_law(rule: &str, what: &str, article: &str) -> Self {
        let article = format!("法律援助法 art {article}");
        Self { rule: rule.to_owned(), what: what.to_owned(), article, about: None }
    }

    fn by_set(rule: String, what: String, about: &Provenance) -> Self {
        Self { rule, what, article: about.basis.to_string(), about: Some(about.clone()) }
    }

    fn cells(&self) -> [String; 4] {
        let Self { rule, what, article, about } = self;
        let [dates, set, source] = match about {
            None => [format!("{IN_FORCE_FROM} -"), "the law itself 法律本身".to_owned(), "[C]".to_owned()],
            Some(about) => {
                let until = about.until.map(|day| day.to_string()).unwrap_or_default();
                [
                    format!("{} - {until}", about.from),
                    format!("{} ({})", about.set, about.area),
                    format!("[{}] {}", about.mark, about.source),
                ]
            }
        };
        [format!("{rule}\n{article}"), what.clone(), format!("{dates}\n{set}"), source]
    }

    fn json(&self) -> Value {
        let mut value = json!({"rule": self.rule, "what": self.what, "article": self.article});
        if let Some(about) = &self.about {
            value["set"] = json!(about.set);
            value["area"] = json!(about.area.to_string());
            value["from"] = json!(about.from);
            value["until"] = json!(about.until);
            value["source"] = json!(about.source);
            value["mark"] = json!(about.mark);
        }
        value
    }
}

/// The rules in the order in which they are tried.
fn explained(rules: &RulesInForce<'_>) -> Vec<Row> {
    let matters = |free: bool| {
        let listed = Matter::ALL.iter().filter(|matter| **matter != Matter::Other);
        let of = listed.filter(|matter| matter.is_free_of_limit() == free);
        of.map(|matter| matter.as_str()).collect::<Vec<_>>().join(", ")
    };
    let mut rows = vec![
        Row::by_law("matter", &format!("hardship counts 审查经济困难: {}", matters(false)), "31"),
        Row::by_law("matter", &format!("hardship does not count 不受经济困难限制: {}", matters(true)), "32"),
        Row::by_law(
            "review",
            "against an effective judgment: once a retrial is ordered or protested 再审或者抗诉",
            "33",
        ),
        Row::by_law(
            "urgency",
            "aid first, papers later 先行提供: under 7 days to a deadline, preservation",
            "44",
        ),
    ];
    for rule in &rules.groups {
        let mut what = join(&rule.groups, |group| group.as_str());
        if !rule.matters.is_empty() {
            what = format!("{what}; for {}", join(&rule.matters, |matter| matter.as_str()));
        }
        if rule.no_fixed_livelihood {
            what.push_str("; without fixed livelihood 无固定生活来源");
        }
        if rule.papers_later {
            what.push_str("; papers may follow 可后补材料");
        }
        rows.push(Row::by_set(format!("exempt-group/{}", rule.id), what, &rule.about));
    }
    for rule in &rules.programmes {
        let what = "active on the register 登记在册".to_owned();
        rows.push(Row::by_set(format!("programme/{}", rule.programme), what, &rule.about));
    }
    if let Some(LineInForce { rule, base, amount }) = rules.line {
        let (times, thousandths) = (rule.times_permille / 1000, rule.times_permille % 1000);
        let times = if thousandths == 0 { times.to_string() } else { format!("{times}.{thousandths:03}") };
        let what = format!(
            "at most {amount} a person and month 人均月收入不高于此 = {times} x {} {} + {}",
            base.base, base.amount, rule.plus
        );
        rows.push(Row::by_set("income-line".to_owned(), what, &rule.about));
        rows.push(Row::by_set(format!("base/{}", base.base), base.amount.to_string(), &base.about));
    }
    rows.push(Row::by_law(
        "undertaking",
        "else the applicant's undertaking, and a person 个人诚信承诺、工作人员认定",
        "41",
    ));
    rows
}

fn join<T>(items: &[T], name: impl Fn(&T) -> &'static str) -> String {
    items.iter().map(name).collect::<Vec<_>>().join(", ")
}
