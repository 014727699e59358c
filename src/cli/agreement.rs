//! `agreement`: the operator's work on agreements, in TOML.

mod explain;

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand, ValueEnum};
use data_encoding::HEXLOWER;
use serde::Deserialize;

use self::explain::Explain;
use super::deliveries::{DEADLINE, Operator};
use super::exchange::show_time;
use super::output::{explain, explain_request, list, say, say_json};
use crate::access::Agreement;
use crate::domain::violation::Violations;
use crate::grpc::agreement_terms;
use crate::grpc::json::to_json;
use crate::grpc::proto;

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Agreements {
    /// Put in agreements, or new versions of them, from a TOML file.
    Put(Put),
    /// Approve a version that another operator put in.
    Approve(Approve),
    /// List agreements: state, days, caller, counterparts.
    List(List),
    /// Show an agreement as TOML, with who put, approved and ended it.
    Show(Show),
    /// Say whether a call would be allowed, and what stands in the way of it in each agreement.
    Explain(Explain),
    /// End an agreement, at once and on every gateway.
    End(End),
}

/// Arguments of `agreement put`.
#[derive(Debug, Args)]
#[command(after_help = "\
The file holds one agreement, or several as [[agreement]], as directory.toml does. The version must be above all
that were put in before: `agreement show ID` prints the newest. What each key means: docs/agreements.md.")]
pub(super) struct Put {
    #[command(flatten)]
    operator: Operator,
    /// The TOML file.
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
}

/// Arguments of `agreement approve`.
#[derive(Debug, Args)]
pub(super) struct Approve {
    #[command(flatten)]
    operator: Operator,
    /// The agreement.
    agreement_id: String,
    /// The version that waits.
    #[arg(long)]
    version: u32,
    /// Digest of the terms that were read, as `agreement show` prints it.
    #[arg(long, value_name = "HEX")]
    sha256: String,
    /// Request id of an earlier try: if that had effect, its answer comes again and nothing happens twice.
    #[arg(long, value_name = "UUID")]
    request_id: Option<String>,
}

/// Arguments of `agreement list`.
#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    operator: Operator,
    /// Only in this state.
    #[arg(long, value_enum)]
    state: Option<State>,
}

/// Where a version stands.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    /// It waits for approval.
    Pending,
    /// Calls are decided by it.
    Effective,
    /// A later version took its place.
    Superseded,
    /// It was ended.
    Ended,
}

/// Arguments of `agreement show`.
#[derive(Debug, Args)]
pub(super) struct Show {
    #[command(flatten)]
    operator: Operator,
    /// The agreement.
    agreement_id: String,
    /// The version; the newest without it.
    #[arg(long)]
    version: Option<u32>,
}

/// Arguments of `agreement end`.
#[derive(Debug, Args)]
pub(super) struct End {
    #[command(flatten)]
    operator: Operator,
    /// The agreement.
    agreement_id: String,
    /// The version that is effective, or that waits.
    #[arg(long)]
    version: u32,
    /// Request id of an earlier try: if that had effect, its answer comes again and nothing happens twice.
    #[arg(long, value_name = "UUID")]
    request_id: Option<String>,
}

impl Agreements {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Put(command) => command.run().await,
            Self::Approve(command) => command.run().await,
            Self::List(command) => command.run().await,
            Self::Show(command) => command.run().await,
            Self::Explain(command) => command.run().await,
            Self::End(command) => command.run().await,
        }
    }
}

/// What a file of agreements may be.
#[derive(Deserialize)]
struct Several {
    agreement: Vec<Agreement>,
}

impl Put {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.operator.client()?;
        let text = std::fs::read_to_string(&self.file)
            .with_context(|| format!("cannot read {}", self.file.display()))?;
        for agreement in read(&text).with_context(|| self.file.display().to_string())? {
            let context = self.operator.context(&client, None);
            let request_id = context.request_id.clone();
            let request = proto::PutAgreementRequest {
                context: Some(context),
                agreement: Some(agreement_terms::on_wire(&agreement)),
            };
            let answer = client.agreements().put_agreement(client.request(request, DEADLINE)).await;
            let answer = answer.map_err(|status| explain_request(&status, &request_id))?.into_inner();
            if self.operator.json {
                say_json(&to_json("PutAgreementResponse", &answer)?);
                continue;
            }
            tell(answer.version.as_ref(), answer.audit);
        }
        Ok(())
    }
}

/// One agreement, or several.
fn read(text: &str) -> anyhow::Result<Vec<Agreement>> {
    let table: toml::Table = toml::from_str(text)?;
    if table.contains_key("agreement") {
        Ok(toml::from_str::<Several>(text)?.agreement)
    } else {
        Ok(vec![toml::from_str(text)?])
    }
}

impl Approve {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.operator.client()?;
        let context = self.operator.context(&client, self.request_id);
        let request_id = context.request_id.clone();
        let sha256 = HEXLOWER.decode(self.sha256.as_bytes());
        let request = proto::ApproveAgreementRequest {
            context: Some(context),
            agreement_id: self.agreement_id,
            version: self.version,
            sha256: sha256.context("--sha256 takes 64 hex digits, as `agreement show` prints them")?,
        };
        let answer = client.agreements().approve_agreement(client.request(request, DEADLINE)).await;
        let answer = answer.map_err(|status| explain_request(&status, &request_id))?.into_inner();
        if self.operator.json {
            say_json(&to_json("ApproveAgreementResponse", &answer)?);
        } else {
            tell(answer.version.as_ref(), answer.audit);
        }
        Ok(())
    }
}

impl End {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.operator.client()?;
        let context = self.operator.context(&client, self.request_id);
        let request_id = context.request_id.clone();
        let request = proto::EndAgreementRequest {
            context: Some(context),
            agreement_id: self.agreement_id,
            version: self.version,
        };
        let answer = client.agreements().end_agreement(client.request(request, DEADLINE)).await;
        let answer = answer.map_err(|status| explain_request(&status, &request_id))?.into_inner();
        if self.operator.json {
            say_json(&to_json("EndAgreementResponse", &answer)?);
        } else {
            tell(answer.version.as_ref(), answer.audit);
        }
        Ok(())
    }
}

/// What a version is now.
fn tell(version: Option<&proto::AgreementVersion>, audit: Option<proto::AuditReceipt>) {
    let Some(version) = version else { return };
    let agreement = version.agreement.as_ref();
    let named = agreement.map(|of| format!("{} version {}", of.agreement_id, of.version)).unwrap_or_default();
    say(format_args!("{named} is {}", state_name(version)));
    say(format_args!("sha256 {}", HEXLOWER.encode(&version.sha256)));
    if version.state() == proto::AgreementState::Pending {
        say("another operator approves it: agreement approve ID --version N --sha256 HEX");
    }
    say(format_args!("audit log index {}", audit.map_or(0, |audit| audit.log_index)));
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.operator.client()?;
        let state = match self.state {
            None => proto::AgreementState::Unspecified,
            Some(State::Pending) => proto::AgreementState::Pending,
            Some(State::Effective) => proto::AgreementState::Effective,
            Some(State::Superseded) => proto::AgreementState::Superseded,
            Some(State::Ended) => proto::AgreementState::Ended,
        };
        let (mut versions, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = proto::ListAgreementsRequest {
                context: Some(self.operator.context(&client, None)),
                state: state.into(),
                page_size: 200,
                page_token,
            };
            let page = client.agreements().list_agreements(client.request(request, DEADLINE)).await;
            let page = page.map_err(|status| explain(&status))?.into_inner();
            versions.extend(page.versions);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        if self.operator.json {
            let shown = versions.iter().map(|version| to_json("AgreementVersion", version));
            say_json(&serde_json::Value::Array(shown.collect::<Result<_, _>>()?));
            return Ok(());
        }
        let mut rows =
            list(&["agreement", "version", "state", "from", "until", "caller", "counterparts", "purposes"]);
        for version in &versions {
            let Some(agreement) = &version.agreement else { continue };
            let day = |day: Option<&crate::grpc::generated::google::r#type::Date>| {
                day.map(|day| format!("{:04}-{:02}-{:02}", day.year, day.month, day.day)).unwrap_or_default()
            };
            rows.add_row([
                agreement.agreement_id.clone(),
                agreement.version.to_string(),
                state_name(version).to_owned(),
                day(agreement.in_force_from.as_ref()),
                day(agreement.in_force_until.as_ref()),
                agreement.caller.as_ref().map(party).unwrap_or_default(),
                agreement.counterparts.iter().map(party).collect::<Vec<_>>().join(" "),
                agreement.purposes.join(" "),
            ]);
        }
        say(rows);
        Ok(())
    }
}

/// A party in a cell: its code, or kind and region.
fn party(party: &proto::AgreementParty) -> String {
    match party.kind() {
        proto::AgencyKind::Unspecified => party.agency.clone(),
        kind => {
            let kind = kind.as_str_name().trim_start_matches("AGENCY_KIND_").to_lowercase().replace('_', "-");
            format!("{kind}@{}", party.region)
        }
    }
}

fn state_name(version: &proto::AgreementVersion) -> &'static str {
    version.state().as_str_name().trim_start_matches("AGREEMENT_STATE_")
}

impl Show {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.operator.client()?;
        let request = proto::GetAgreementRequest {
            context: Some(self.operator.context(&client, None)),
            agreement_id: self.agreement_id,
        };
        let answer = client.agreements().get_agreement(client.request(request, DEADLINE)).await;
        let answer = answer.map_err(|status| explain(&status))?.into_inner();
        if self.operator.json {
            say_json(&to_json("GetAgreementResponse", &answer)?);
            return Ok(());
        }
        let of = |version: &&proto::AgreementVersion| {
            self.version.is_none_or(|wanted| version.agreement.as_ref().map(|of| of.version) == Some(wanted))
        };
        let Some(version) = answer.versions.iter().find(of) else { bail!("it has no such version") };
        let agreement = agreement_terms::read(&mut Violations::new(), version.agreement.as_ref());
        let agreement = agreement.context("this version of the command does not know all of its terms")?;
        say(format_args!("# {}, sha256 {}", state_name(version), HEXLOWER.encode(&version.sha256)));
        for act in &version.acts {
            say(format_args!("# {}", act_told(act)));
        }
        let versions = answer.versions.iter().filter_map(|version| Some(version.agreement.as_ref()?.version));
        let versions: Vec<_> = versions.map(|version| version.to_string()).collect();
        say(format_args!("# versions: {}", versions.join(", ")));
        say(toml::to_string(&agreement)?.trim_end());
        Ok(())
    }
}

fn act_told(act: &proto::AgreementAct) -> String {
    let what = match act.kind() {
        proto::AgreementActKind::Put => "put in",
        proto::AgreementActKind::Approve => "approved",
        proto::AgreementActKind::End => "ended",
        proto::AgreementActKind::Unspecified => "changed",
    };
    let who = match &act.operator {
        Some(operator) => format!("{} {}/{}", act.agency, operator.unit, operator.staff_number),
        None => format!("the directory file of {}", act.agency),
    };
    let at = act.act_time.as_ref().map(show_time).unwrap_or_default();
    format!("{what} {at} by {who}, audit log index {}", act.log_index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_one_agreement_or_several() {
        let one = "id = \"A\"\nversion = 1\ncaller = \"91350100M000100Y43\"\nmethods = [\"GetEntry\"]\n\
                   purposes = [\"AUDIT_INSPECTION\"]\nfrom = 2026-01-01\nuntil = 2026-12-31\n";
        assert_eq!(read(one).unwrap().len(), 1);
        let two = format!("[[agreement]]\n{one}\n[[agreement]]\n{}", one.replace("\"A\"", "\"B\""));
        assert_eq!(read(&two).unwrap().len(), 2);
        assert!(read(&one.replace("methods", "method")).is_err());
    }
}
