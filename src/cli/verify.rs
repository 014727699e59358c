//! `verify`: asks a register, as a legal-aid centre.

mod batch;
mod people;
mod registers;
mod results;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, Subcommand};

use self::registers::{LowIncome, Poverty, Register, Shown};
use super::output::{explain_request, say, say_json, table};
use crate::client::AgencyClient;
use crate::clock::Clock;
use crate::grpc::json::{from_json, to_json};
use crate::grpc::proto;
use crate::setup::purposes;

/// Which register.
#[derive(Debug, Subcommand)]
pub(super) enum Verify {
    /// Ask the civil-affairs low-income register about a household, or about many.
    ///
    /// Exit code 0 means that there is an answer, whatever it says; UNAVAILABLE is an answer too, with what the
    /// centre may do next.
    #[command(after_help = BATCH_HELP)]
    LowIncome(Asking),
    /// Ask the register of poverty households about a household, or about many.
    ///
    /// Exit code 0 means that there is an answer, whatever it says; UNAVAILABLE is an answer too, with what the
    /// centre may do next.
    #[command(after_help = BATCH_HELP)]
    Poverty(Asking),
}

const BATCH_HELP: &str = "\
Many people: --csv FILE --out FILE. The CSV file is UTF-8 with a head: name, id_number (resident ID number),
household_region, and where wanted village_code (poverty) and matter. --file gives the rest of every question; its
subject is not used. Everything wrong with the file is said at once, by line and column, before anybody is asked.

The results have these columns, and name nobody:
  line         line in the CSV file; its head is line 1
  request_id   request id of the question
  result       MATCH, NO_MATCH, AMBIGUOUS, UNAVAILABLE, REFUSED (by the register), or NOT_ASKED
  reason       in UPPER_SNAKE; for NOT_ASKED followed by the fields and the rules they break
  registry     credit code of the registry
  detail       what the register says: programmes and income band; kind, risk, days and village
  valid_until  last day on which the answer may be relied on
  next         codes of what the centre may do next
  log_index    index of the answer's entry in the audit log
Begun again, the same command goes on where it stopped: what is in --out is not asked again, and what was on its way
has effect once. FILE.key beside the results makes the request ids; keep it until all is answered.";

/// Arguments of a question.
#[derive(Debug, Args)]
pub(super) struct Asking {
    /// The centre's profile, as `init` makes it.
    #[arg(long = "as", value_name = "FILE")]
    profile: PathBuf,
    /// The question: JSON of LowIncomeQuery or PovertyHouseholdQuery, `-` for standard input. A file keeps the
    /// person's name and number out of the shell's history and the process list.
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
    #[arg(long, value_name = "UUID", default_value = "", conflicts_with = "csv")]
    request_id: String,
    /// The person is a minor under 14.
    #[arg(long, conflicts_with = "csv")]
    minor_under_14: bool,
    /// Where the register is UNAVAILABLE, let the gateway ask again and deliver the answer.
    #[arg(long)]
    complete_later: bool,
    /// People to ask about, instead of the question's own.
    #[arg(long, value_name = "FILE", requires = "out")]
    csv: Option<PathBuf>,
    /// Where the results go.
    #[arg(long, value_name = "FILE", requires = "csv")]
    out: Option<PathBuf>,
    /// Seconds to wait for an answer.
    #[arg(long, default_value_t = 10)]
    deadline: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::LowIncome(asking) => asking.run::<LowIncome>().await,
            Self::Poverty(asking) => asking.run::<Poverty>().await,
        }
    }
}

impl Asking {
    async fn run<R: Register>(self) -> anyhow::Result<()> {
        let client = AgencyClient::load(&self.profile, Clock::system())?;
        let query: R::Query = from_json(R::QUERY, &read_text(&self.file)?)
            .with_context(|| format!("{} is not JSON of {}", self.file.display(), R::QUERY))?;
        let envelope = proto::Envelope {
            request_id: self.request_id.clone(),
            matter_id: self.matter.clone(),
            kind: R::KIND.into(),
            recipient: self.registry.clone(),
            legal_basis: self.bases.iter().map(|basis| parse_basis(basis)).collect::<Result<_, _>>()?,
            purpose: self.purpose.clone(),
            classification: Some(proto::Classification {
                sensitive: Some(true),
                minor_under_14: Some(self.minor_under_14),
            }),
            ..Default::default()
        };
        if let (Some(csv), Some(out)) = (&self.csv, &self.out) {
            return batch::run::<R>(&client, csv, out, &self, envelope, query).await;
        }
        let envelope = client.complete(envelope);
        let request_id = envelope.request_id.clone();
        let deadline = Duration::from_secs(self.deadline);
        let response = R::ask(&client, envelope, query, self.complete_later, deadline).await;
        let response = response.map_err(|status| explain_request(&status, &request_id))?;
        if self.json {
            say_json(&to_json(R::RESPONSE, &response)?);
        } else {
            show(&R::shown(&response), &request_id);
        }
        Ok(())
    }
}

fn show(shown: &Shown, request_id: &str) {
    let mut rows = table(&["", ""]);
    rows.add_row(["result", &shown.result]);
    rows.add_row(["registry", &shown.registry]);
    for (name, value) in &shown.details {
        rows.add_row([name, value]);
    }
    for (name, value) in [("valid until", &shown.valid_until), ("reason", &shown.reason)] {
        if !value.is_empty() {
            rows.add_row([name, value]);
        }
    }
    for step in &shown.next_steps {
        rows.add_row(["next", &format!("{} ({})\n{}", step.text, step.article, step.text_zh)]);
    }
    if !shown.verification_id.is_empty() {
        rows.add_row(["completed later", &shown.verification_id]);
    }
    rows.add_row(["request id", request_id]);
    if let Some(index) = shown.log_index {
        rows.add_row(["audit log index", &index.to_string()]);
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
        text = std::fs::read_to_string(path).map_err(|error| {
            let path = path.display();
            anyhow!("cannot read {path}: {error}; `init` puts examples into its folder, docs/kinds shows one of each kind")
        })?;
    }
    Ok(text)
}

/// Reads the text of a file of people; each with the line that it stands on.
#[cfg(fuzzing)]
pub(super) fn read_people(
    text: &[u8],
    today: jiff::civil::Date,
) -> anyhow::Result<Vec<(u64, proto::Subject)>> {
    let lines = people::parse(text, Path::new("people.csv"), today)?;
    Ok(lines.into_iter().map(|line| (line.number, line.subject)).collect())
}
