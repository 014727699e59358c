//! What a simulated agency does with what it is sent: steps for each kind, from a file or built in.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::SimulatorError;
use super::decision;
use crate::config::load_table;
use crate::domain::exchange::Kind;

/// One step. What follows [`Step::AskSupplement`] is done when the papers have come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Step {
    /// Confirms that it has the message.
    Receipt,
    /// Asks for papers, all at once.
    AskSupplement {
        /// What is missing.
        #[serde(default = "usual_papers")]
        papers: Vec<String>,
        /// Days until they are due.
        #[serde(default)]
        days: u16,
    },
    /// Accepts the matter for review; only for appeal referrals.
    Accept,
    /// Reviews hardship again, which the decision then says; only for fee waivers.
    Rereview,
    /// Decides.
    Decide {
        /// Outcome as the contract's enum names it, without its prefix, such as `GRANTED`; the kind's usual one where
        /// none is given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        outcome: Option<String>,
    },
    /// Refuses.
    Refuse {
        /// Written reasons.
        reasons: String,
    },
    /// Waits: the answer is late.
    Wait {
        /// How long, in milliseconds.
        ms: u64,
    },
    /// Says nothing more.
    Silent,
}

fn usual_papers() -> Vec<String> {
    vec!["委托代理手续".to_owned()]
}

/// Steps for each kind.
pub type Steps = BTreeMap<Kind, Vec<Step>>;

/// A script file: TOML with a table `steps`, a list of steps for each kind.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptFile {
    /// The steps; a kind that is not here is done as the configuration says.
    pub steps: Steps,
}

impl ScriptFile {
    /// Reads a script.
    ///
    /// # Errors
    /// When the file is missing or malformed, or has a step that its kind does not know.
    pub fn load(path: &Path) -> Result<Self, SimulatorError> {
        let file: Self = load_table(path, [])?;
        check(&file.steps)?;
        Ok(file)
    }
}

/// Whether every step is one that its kind knows.
///
/// # Errors
/// Names the first that is not.
pub(super) fn check(steps: &Steps) -> Result<(), SimulatorError> {
    for (kind, steps) in steps {
        for step in steps {
            let known = match step {
                Step::Accept => *kind == Kind::AppealReferral,
                Step::Rereview => *kind == Kind::FeeWaiver,
                Step::Decide { outcome: Some(outcome) } => decision::knows(*kind, outcome),
                Step::Decide { outcome: None } => decision::decides(*kind),
                Step::Refuse { .. } => decision::refuses(*kind),
                _ => true,
            };
            if !known {
                return Err(SimulatorError::Step { kind: *kind, step: format!("{step:?}") });
            }
        }
    }
    Ok(())
}

/// A built-in script.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Script {
    /// Confirms, asks for a paper, and decides as usual when the paper has come: a fee is deferred.
    #[default]
    SupplementThenDefer,
    /// Confirms and decides as usual: a fee is deferred.
    Defer,
    /// Takes the delivery and says nothing more.
    TakeOnly,
}

impl Script {
    /// What it does with a kind.
    pub(super) fn steps(self, kind: Kind) -> Vec<Step> {
        let ask = Step::AskSupplement { papers: usual_papers(), days: 0 };
        let decide = decision::decides(kind).then_some(Step::Decide { outcome: None });
        let opening = match self {
            Self::SupplementThenDefer => vec![Step::Receipt, ask],
            Self::Defer => vec![Step::Receipt],
            Self::TakeOnly => return Vec::new(),
        };
        let accept = (kind == Kind::AppealReferral).then_some(Step::Accept);
        opening.into_iter().chain(accept).chain(decide).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Steps, String> {
        let file: ScriptFile = toml::from_str(text).map_err(|error| error.to_string())?;
        check(&file.steps).map_err(|error| error.to_string())?;
        Ok(file.steps)
    }

    #[test]
    fn a_script_is_read_step_by_step() {
        let steps = read(
            r#"
            [steps]
            FEE_WAIVER = [
                { do = "receipt" }, { do = "rereview" }, { do = "wait", ms = 50 },
                { do = "ask-supplement", papers = ["收入证明"], days = 7 }, { do = "decide", outcome = "REDUCED" },
            ]
            APPEAL_REFERRAL = [{ do = "receipt" }, { do = "accept" }, { do = "refuse", reasons = "不属于监督范围" }]
            JUDICIAL_RELIEF = [{ do = "receipt" }, { do = "silent" }]
            "#,
        );
        assert_eq!(steps.unwrap()[&Kind::FeeWaiver].len(), 5);
    }

    #[test]
    fn the_script_of_the_documentation_is_read() {
        let page = include_str!("../../docs/scripts.md");
        let (_, rest) = page.split_once("```toml\n").unwrap();
        let (script, _) = rest.split_once("```").unwrap();
        assert_eq!(read(script).unwrap().len(), 6);
    }

    #[test]
    fn a_step_that_its_kind_does_not_know_is_refused() {
        for text in [
            r#"steps.FEE_WAIVER = [{ do = "accept" }]"#,
            r#"steps.JUDICIAL_RELIEF = [{ do = "rereview" }]"#,
            r#"steps.JUDICIAL_RELIEF = [{ do = "decide", outcome = "DEFERRED" }]"#,
            r#"steps.FEE_WAIVER = [{ do = "decide", outcome = "UNSPECIFIED" }]"#,
            r#"steps.COUNSEL_NOTICE = [{ do = "refuse", reasons = "不予指派" }]"#,
            r#"steps.COUNSEL_NOTICE = [{ do = "decide", outcome = "DONE" }]"#,
            r#"steps.LOW_INCOME_QUERY = [{ do = "decide" }]"#,
            r#"steps.FEE_WAIVER = [{ do = "dance" }]"#,
            r#"steps.DANCE = []"#,
            r#"step.FEE_WAIVER = []"#,
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
