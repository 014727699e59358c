//! `verify`: asks a register, as a legal-aid centre.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};

use super::output::{explain_request, say, say_json, table};
use crate::client::AgencyClient;
use crate::clock::Clock;
use crate::grpc::json::{from_json, to_json};
use crate::grpc::proto;
use crate::setup::purposes;

/// Which register.
#[derive(Debug, Subcommand)]
pub(super) enum Verify {
    /// Ask the civil-affairs low-income register about a household.
    ///
    /// Exit code 0 means that there is an answer, whatever it says; UNAVAILABLE is an answer too, with what the
    /// centre may do next.
    LowIncome(LowIncome),
}

/// Arguments of `verify low-income`.
#[derive(Debug, Args)]
pub(super) struct LowIncome {
    /// The centre's profile, as `init` makes it.
    #[arg(long = "as", value_name = "FILE")]
    profile: PathBuf,
    /// The question: JSON of LowIncomeQuery, `-` for standard input. A file keeps the person's name and number
    /// out of the shell's history and the process list.
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// The centre's number of the matter.
    #[arg(long)]
    matter: String,
    /// Purpose code of the agreement.
    #[arg(long, default_value = purposes::AID_ELIGIBILITY)]
    purpose: String,
    /// Legal basis as LAW:ARTICLE; may be given several times.
    #[arg(long = "basis", value_name = "LAW:ARTICLE", default_value = "法律援助法:41")]
    bases: Vec<String>,
    /// Credit code of the registry; without it the household's region decides.
    #[arg(long, value_name = "CODE", default_value = "")]
    registry: String,
    /// Request id of an earlier call, to get its answer again.
    #[arg(long, value_name = "UUID", default_value = "")]
    request_id: String,
    /// The person is a minor under 14.
    #[arg(long)]
    minor_under_14: bool,
    /// Seconds to wait for an answer.
    #[arg(long, default_value_t = 10)]
    deadline: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let Self::LowIncome(arguments) = self;
        arguments.run().await
    }
}

impl LowIncome {
    async fn run(self) -> anyhow::Result<()> {
        let client = AgencyClient::load(&self.profile, Clock::system())?;
        let query: proto::LowIncomeQuery = from_json("LowIncomeQuery", &read_text(&self.file)?)
            .with_context(|| format!("{} is not JSON of LowIncomeQuery", self.file.display()))?;
        let envelope = client.complete(proto::Envelope {
            request_id: self.request_id,
            matter_id: self.matter,
            kind: proto::Kind::LowIncomeQuery.into(),
            recipient: self.registry,
            legal_basis: self.bases.iter().map(|basis| parse_basis(basis)).collect::<Result<_, _>>()?,
            purpose: self.purpose,
            classification: Some(proto::Classification {
                sensitive: Some(true),
                minor_under_14: Some(self.minor_under_14),
            }),
            ..Default::default()
        });
        let request_id = envelope.request_id.clone();
        let request = proto::VerifyLowIncomeRequest {
            envelope: Some(envelope),
            query: Some(query),
            complete_later: false,
        };
        let request = client.request(request, Duration::from_secs(self.deadline));
        let response = client.verification().verify_low_income(request).await;
        let response = response.map_err(|status| explain_request(&status, &request_id))?.into_inner();
        if self.json {
            say_json(&to_json("VerifyLowIncomeResponse", &response)?);
        } else {
            show(&response, &request_id);
        }
        Ok(())
    }
}

fn show(response: &proto::VerifyLowIncomeResponse, request_id: &str) {
    let answer = response.answer.clone().unwrap_or_default();
    let result = proto::VerificationResult::try_from(answer.result).unwrap_or_default();
    let mut rows = table(&["", ""]);
    let short = |name: &str, prefix: &str| name.trim_start_matches(prefix).to_owned();
    rows.add_row(["result", &short(result.as_str_name(), "VERIFICATION_RESULT_")]);
    rows.add_row(["registry", &response.registry]);
    for programme in &answer.programmes {
        let name = proto::Programme::try_from(programme.programme).unwrap_or_default();
        let status = proto::RegisterStatus::try_from(programme.status).unwrap_or_default();
        rows.add_row([
            short(name.as_str_name(), "PROGRAMME_"),
            format!("{} {}", short(status.as_str_name(), "REGISTER_STATUS_"), programme.certificate_number),
        ]);
    }
    if answer.income_band != 0 {
        let band = proto::IncomeBand::try_from(answer.income_band).unwrap_or_default();
        rows.add_row(["income", &short(band.as_str_name(), "INCOME_BAND_")]);
    }
    if let Some(until) = &answer.valid_until {
        rows.add_row(["valid until", &format!("{:04}-{:02}-{:02}", until.year, until.month, until.day)]);
    }
    if !answer.reason.is_empty() {
        rows.add_row(["reason", &answer.reason]);
    }
    for step in &answer.next_steps {
        rows.add_row(["next", &format!("{} ({})\n{}", step.text, step.article, step.text_zh)]);
    }
    rows.add_row(["request id", request_id]);
    if let Some(audit) = &response.audit {
        rows.add_row(["audit log index", &audit.log_index.to_string()]);
    }
    say(rows);
}

/// `LAW:ARTICLE`.
pub(super) fn parse_basis(text: &str) -> anyhow::Result<proto::LegalBasis> {
    match text.rsplit_once([':', '：']) {
        Some((law, article)) => Ok(proto::LegalBasis { law: law.to_owned(), article: article.to_owned() }),
        None => bail!("--basis takes LAW:ARTICLE, such as 法律援助法:41"),
    }
}

/// A file's text, or standard input's.
pub(super) fn read_text(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
    } else {
        text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    }
    Ok(text)
}
