//! `demo`: the whole job once, with simulated agencies, over real sockets.

mod stage;
mod steps;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, anyhow};
use clap::{Args, ValueEnum};
use comfy_table::ColumnConstraint;
use serde_json::json;

use self::steps::{Told, Walk};
use super::output::{say, say_json, table};
use crate::clock::Clock;

/// Width of the table where it does not go to a terminal.
const WIDTH: u16 = 140;

/// The column that says what came of a step.
const RESULT: usize = 3;

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Work in this new folder and keep it: configuration, keys, database, the export and its tampered copy.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Work on this empty PostgreSQL database (a postgres:// URL). The two steps that copy the database's file, to change a
    /// byte and to bring back an old state, are left out.
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// Language of the table.
    #[arg(long, value_enum, default_value_t = Language::En)]
    lang: Language,
}

/// Language of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Language {
    /// Chinese.
    Zh,
    /// English.
    En,
}

/// A step and how it went.
struct Step {
    name: &'static str,
    told: Told,
    ok: bool,
    elapsed_ms: u128,
}

impl Demo {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let (folder, temporary) = match &self.keep {
            Some(folder) => (folder.clone(), false),
            None => {
                let name = format!("legal-aid-demo-{}", crate::entropy::uuid_v7(Clock::system().now()));
                (std::env::temp_dir().join(name), true)
            }
        };
        let outcome = self.walk(&folder).await;
        if temporary {
            // What cannot be removed is only a synthetic demo's.
            let _ = std::fs::remove_dir_all(&folder);
        }
        let (steps, audit) = outcome?;
        self.report(&steps, &audit);
        let missed: Vec<_> = steps.iter().filter(|step| !step.ok).map(|step| step.name).collect();
        if missed.is_empty() { Ok(()) } else { Err(anyhow!("missed: {}", missed.join(", "))) }
    }

    async fn walk(&self, folder: &std::path::Path) -> anyhow::Result<(Vec<Step>, steps::AuditResult)> {
        let started = Instant::now();
        let (district, witness) = stage::set(folder, self.database.as_deref())
            .await
            .context("the simulated district does not start")?;
        if !self.json {
            let (zh, en) = (
                format!("网关和模拟机构已在本机启动（{} 毫秒）", started.elapsed().as_millis()),
                format!(
                    "gateway and simulated agencies are up on loopback ({} ms)",
                    started.elapsed().as_millis()
                ),
            );
            say(self.pick(&zh, &en));
        }
        let mut walk = Walk::new(district, witness)?;
        let mut done = Vec::new();
        macro_rules! step {
            ($name:literal, $step:expr) => {
                let started = Instant::now();
                let outcome: anyhow::Result<Told> = $step.await;
                done.push(self.told($name, outcome, started));
            };
        }
        step!("household_on_register", walk.household_on_register());
        step!("household_not_on_register", walk.household_not_on_register());
        step!("poverty_household", walk.poverty_household());
        step!("registry_down", walk.registry_down());
        step!("answered_later", walk.answered_later());
        step!("batch_of_people", walk.batch_of_people());
        step!("eligibility_assessed", walk.eligibility_assessed());
        step!("fee_waiver", walk.fee_waiver());
        step!("decision_paper", walk.decision_paper());
        step!("same_request_again", walk.same_request_again());
        step!("judicial_relief", walk.judicial_relief());
        step!("clock_of_the_law", walk.clock_of_the_law());
        step!("appeal_referral", walk.appeal_referral());
        step!("counsel_notice", walk.counsel_notice());
        step!("direct_assignment_report", walk.direct_assignment_report());
        step!("cooperation_request", walk.cooperation_request());
        step!("changes_watched", walk.changes_watched());
        step!("court_queries_registry", walk.court_queries_registry());
        step!("no_certificate", walk.no_certificate());
        step!("receipt_kept", walk.receipt_kept());
        step!("person_erased", walk.person_erased());
        step!("audit_verified_from_outside", walk.audit_verified_from_outside());
        if self.database.is_none() {
            step!("tampering_detected", walk.tampering_detected());
            step!("old_backup_refused", walk.old_backup_refused());
        }
        let audit = walk.finish().await;
        Ok((done, audit))
    }

    fn told(&self, name: &'static str, outcome: anyhow::Result<Told>, started: Instant) -> Step {
        let elapsed_ms = started.elapsed().as_millis();
        let step = match outcome {
            Ok(told) => Step { name, told, ok: true, elapsed_ms },
            Err(error) => Step { name, told: Told::missed(&error), ok: false, elapsed_ms },
        };
        if !self.json {
            let mark = if step.ok { "✓" } else { "✗" };
            say(format_args!("{mark} {}", self.title(&step)));
        }
        step
    }

    fn report(&self, steps: &[Step], audit: &steps::AuditResult) {
        if self.json {
            let steps: Vec<_> = steps
                .iter()
                .map(|step| {
                    json!({
                        "name": step.name,
                        "ok": step.ok,
                        "elapsed_ms": step.elapsed_ms,
                        "log_index": step.told.log_index,
                    })
                })
                .collect();
            say_json(&json!({
                "steps": steps,
                "audit": {
                    "size": audit.size,
                    "root": audit.root,
                    "verified": audit.verified,
                    "tamper_detected": audit.tamper_detected,
                },
            }));
            return;
        }
        let head = match self.lang {
            Language::Zh => ["", "步骤", "谁 → 谁", "结果", "毫秒", "日志序号"],
            Language::En => ["", "step", "who → whom", "result", "ms", "log index"],
        };
        let mut rows = table(&head);
        if !std::io::stdout().is_terminal() {
            rows.set_width(WIDTH);
        }
        // Where there is room, only what came of a step is broken into lines.
        if rows.width().is_none_or(|width| width >= WIDTH) {
            for column in (0..head.len()).filter(|column| *column != RESULT) {
                if let Some(column) = rows.column_mut(column) {
                    column.set_constraint(ColumnConstraint::ContentWidth);
                }
            }
        }
        for step in steps {
            let told = &step.told;
            rows.add_row([
                if step.ok { "✓" } else { "✗" }.to_owned(),
                self.title(step).to_owned(),
                self.pick(told.parties.0, told.parties.1).to_owned(),
                self.pick(&told.result.0, &told.result.1).to_owned(),
                step.elapsed_ms.to_string(),
                told.log_index.map(|index| index.to_string()).unwrap_or_default(),
            ]);
        }
        say(rows);
        let (size, root) = (audit.size, &audit.root);
        say(self.pick(
            &format!("审计日志共 {size} 条，根哈希 {root}；任何人都可用日志公钥离线核验。"),
            &format!("audit log: {size} entries, root {root}; anyone can verify it offline with the log's public key."),
        ));
        if let Some(folder) = &self.keep {
            let folder = folder.display();
            say(self.pick(&format!("保留于 {folder}"), &format!("kept in {folder}; try:")));
            if self.database.is_none() {
                say(format_args!(
                    "  legal-aid-gateway audit verify {folder}/gateway.db --key {folder}/log.pub"
                ));
                say(format_args!(
                    "  legal-aid-gateway audit verify {folder}/tampered.db --key {folder}/log.pub"
                ));
            }
            say(format_args!(
                "  legal-aid-gateway audit verify {folder}/decision.receipt --key {folder}/log.pub"
            ));
        }
    }

    /// What a step is called; of one that missed, the name that `--json` gives it.
    fn title(&self, step: &Step) -> &'static str {
        match (step.ok, self.lang) {
            (false, _) => step.name,
            (true, Language::Zh) => step.told.title.0,
            (true, Language::En) => step.told.title.1,
        }
    }

    fn pick<'t>(&self, zh: &'t str, en: &'t str) -> &'t str {
        match self.lang {
            Language::Zh => zh,
            Language::En => en,
        }
    }
}
