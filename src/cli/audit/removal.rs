//! `audit erase` and `audit prune`.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::DEADLINE;
use crate::cli::output::{explain, say, say_json};
use crate::client::AgencyClient;
use crate::clock::Clock;
use crate::grpc::json::from_json;
use crate::grpc::proto;
use crate::grpc::proto::erase_records_request::Target;
use crate::setup::purposes;

/// How soon it asks how far the gateway is, and how seldom at last: each question is an entry of the log.
const ASK_AFTER: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Arguments of both.
#[derive(Debug, Args)]
struct Caller {
    /// The operator's profile, as `init` makes it.
    #[arg(long = "as", value_name = "FILE")]
    profile: PathBuf,
    /// Purpose code of the agreement.
    #[arg(long, default_value = purposes::RECORDS_MANAGEMENT)]
    purpose: String,
    /// Only count; do this first.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Why something is erased (个人信息保护法 art 47).
#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "SCREAMING_SNAKE_CASE")]
enum Ground {
    /// The purpose is achieved, cannot be, or does not need the data any more: item (1).
    PurposeAchieved,
    /// The time for which it was to be kept has ended: item (2).
    RetentionEnded,
    /// The person has withdrawn consent: item (3).
    ConsentWithdrawn,
    /// It was processed against the law or an agreement: item (4).
    UnlawfulProcessing,
    /// Another law says so: item (5).
    OtherLaw,
}

/// A law and an article of it.
#[derive(Clone, Debug)]
struct Basis(String, String);

/// Arguments of `audit erase`.
#[derive(Debug, Args)]
#[command(after_help = "\
What is erased: messages, papers and answers that the gateway keeps, and the salts without which the log's \
commitments say nothing. What stays: the log's entries with their hashes, so that the log still verifies; who asked \
for what and when. Copies that other agencies hold are theirs to erase. An exchange that still runs is named, and \
nothing is erased: withdraw or end it first. Nothing brings back what was erased.")]
#[command(group = clap::ArgGroup::new("target").required(true))]
pub(in crate::cli) struct Erase {
    #[command(flatten)]
    caller: Caller,
    /// A person's document in JSON, such as {"idKind": "ID_KIND_RESIDENT_ID", "idNumber": "…"}; - reads it from
    /// standard input, so that it stands in no file and no list of processes.
    #[arg(long, value_name = "FILE", group = "target")]
    subject: Option<PathBuf>,
    /// A person's pseudonym, as an entry names it.
    #[arg(long, group = "target")]
    pseudonym: Option<String>,
    /// All that was recorded, or last changed, before this day in Asia/Shanghai.
    #[arg(long, value_name = "DATE", group = "target", value_parser = day)]
    before: Option<jiff::civil::Date>,
    /// The article relied on, such as "个人信息保护法 47". May be given several times.
    #[arg(long = "basis", value_name = "LAW ARTICLE", required = true, value_parser = basis)]
    bases: Vec<Basis>,
    /// Why.
    #[arg(long)]
    ground: Ground,
    /// Reference of the approval.
    #[arg(long, default_value = "")]
    approval: String,
}

/// Arguments of `audit prune`.
#[derive(Debug, Args)]
#[command(after_help = "\
[retention] in the gateway's configuration says how long what is kept: at least 36 months. Of a pruned entry \
the bytes go and the hash stays; the log still verifies, and an entry of its own says what was pruned.")]
pub(in crate::cli) struct Prune {
    #[command(flatten)]
    caller: Caller,
}

impl Erase {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = AgencyClient::load(&self.caller.profile, Clock::system())?;
        let ground = match self.ground {
            Ground::PurposeAchieved => proto::ErasureGround::PurposeAchieved,
            Ground::RetentionEnded => proto::ErasureGround::RetentionEnded,
            Ground::ConsentWithdrawn => proto::ErasureGround::ConsentWithdrawn,
            Ground::UnlawfulProcessing => proto::ErasureGround::UnlawfulProcessing,
            Ground::OtherLaw => proto::ErasureGround::OtherLaw,
        };
        let target = match (&self.subject, self.pseudonym, self.before) {
            (Some(path), ..) => {
                let subject = from_json("ErasedSubject", &read(path)?);
                Target::Subject(
                    subject.with_context(|| format!("--subject: {} is {SUBJECT}", path.display()))?,
                )
            }
            (None, Some(pseudonym), _) => Target::Pseudonym(pseudonym),
            (None, None, Some(day)) => Target::RecordedBefore(start_of(day)?),
            (None, None, None) => bail!("say what to erase: --subject, --pseudonym or --before"),
        };
        let request = proto::EraseRecordsRequest {
            context: Some(client.context(&self.caller.purpose)),
            target: Some(target),
            legal_basis: self
                .bases
                .into_iter()
                .map(|Basis(law, article)| proto::LegalBasis { law, article })
                .collect(),
            ground: ground.into(),
            approval: self.approval,
            dry_run: self.caller.dry_run,
        };
        let answer = client.audit().erase_records(client.request(request, DEADLINE)).await;
        let answer = answer.map_err(|status| explain(&status))?.into_inner();
        self.caller.follow(&client, &answer.removal_id, "erased").await
    }
}

impl Prune {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = AgencyClient::load(&self.caller.profile, Clock::system())?;
        let request = proto::PruneLogRequest {
            context: Some(client.context(&self.caller.purpose)),
            dry_run: self.caller.dry_run,
        };
        let answer = client.audit().prune_log(client.request(request, DEADLINE)).await;
        let answer = answer.map_err(|status| explain(&status))?.into_inner();
        self.caller.follow(&client, &answer.removal_id, "pruned").await
    }
}

impl Caller {
    /// Follows a removal to its end. The gateway goes on with it also when nobody follows.
    async fn follow(&self, client: &AgencyClient, removal_id: &str, done: &str) -> anyhow::Result<()> {
        let bar = ProgressBar::new(0);
        bar.set_style(ProgressStyle::with_template("{msg} {bar:40} {pos}/{len} entries, {eta} left")?);
        let mut wait = ASK_AFTER;
        let ended = loop {
            let context = Some(client.context(&self.purpose));
            let request = proto::GetRemovalRequest { context, removal_id: removal_id.to_owned() };
            let answer = client.audit().get_removal(client.request(request, DEADLINE)).await;
            let answer = answer.map_err(|status| explain(&status))?.into_inner();
            bar.set_length(answer.log_size);
            bar.set_position(answer.looked_through);
            match answer.state() {
                proto::RemovalState::Counting => bar.set_message("counting"),
                proto::RemovalState::Removing => bar.set_message("removing"),
                _ => break answer,
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        };
        bar.finish_and_clear();
        let (entries, exchanges) = (ended.entries, ended.exchanges);
        if self.json {
            say_json(&json!({
                "removal_id": removal_id,
                "state": ended.state().as_str_name().trim_start_matches("REMOVAL_STATE_"),
                "entries": entries.to_string(),
                "exchanges": exchanges.to_string(),
                "running": ended.running,
            }));
        }
        match ended.state() {
            proto::RemovalState::Refused => bail!(
                "nothing was removed: {} exchange(s) still run: {}; let each be decided or withdrawn and its \
                 messages be taken over, then try again",
                ended.running.len(),
                ended.running.join(", ")
            ),
            proto::RemovalState::Counted if !self.json => {
                say(format_args!(
                    "{entries} entries and {exchanges} exchanges or verifications would be {done}"
                ));
                say("nothing was removed; without --dry-run it is, for good");
            }
            proto::RemovalState::Done if !self.json => {
                say(format_args!("{entries} entries and {exchanges} exchanges or verifications were {done}"));
                if !ended.running.is_empty() {
                    let running = ended.running.join(", ");
                    say(format_args!("not {done}, since they began meanwhile and still run: {running}"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text).context("standard input cannot be read")?;
        return Ok(text);
    }
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// When a day begins in Asia/Shanghai, which has one offset all year.
fn start_of(day: jiff::civil::Date) -> anyhow::Result<prost_types::Timestamp> {
    let zoned = day.to_zoned(jiff::tz::TimeZone::fixed(jiff::tz::offset(8)))?;
    Ok(crate::grpc::wire::timestamp(zoned.timestamp()))
}

/// What a document is not, when it cannot be read. What stands there instead may be personal, and is not repeated.
const SUBJECT: &str =
    "not a person's document in JSON, such as {\"idKind\": \"ID_KIND_RESIDENT_ID\", \"idNumber\": \"…\"}";

fn day(text: &str) -> Result<jiff::civil::Date, String> {
    text.parse().map_err(|_| "a day, such as 2023-01-01".to_owned())
}

fn basis(text: &str) -> Result<Basis, String> {
    let (law, article) = text
        .trim()
        .rsplit_once(char::is_whitespace)
        .ok_or_else(|| "a law and an article, such as \"个人信息保护法 47\"".to_owned())?;
    Ok(Basis(law.trim().to_owned(), article.to_owned()))
}
