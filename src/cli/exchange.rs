//! `exchange`: submits, answers, reads and takes exchanges.

mod redeliver;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand};
use prost::Message as _;
use serde_json::json;

use super::output::{explain, explain_request, list, say, say_json};
use super::verify::{parse_basis, read_text};
use crate::client::AgencyClient;
use crate::clock::Clock;
use crate::domain::exchange::Kind;
use crate::grpc::json::{from_json, to_json};
use crate::grpc::proto;
use crate::grpc::proto::exchange_message::Body;
use crate::grpc::wire::timestamp;
use crate::setup::purposes;

const DEADLINE: Duration = Duration::from_secs(10);

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Exchange {
    /// Open an exchange.
    Submit(Submit),
    /// List exchanges that this agency is party to, newest first.
    List(List),
    /// Show one exchange with its thread.
    Show(Show),
    /// Add a response to an exchange.
    Respond(Respond),
    /// Take deliveries that wait for this agency, of all its exchanges.
    Pull(Pull),
    /// Follow the changes of all exchanges of this agency, one line each, until interrupted.
    Watch(watch::Watch),
    /// Have what was given up in an exchange delivered again, as the operator.
    Redeliver(redeliver::Redeliver),
}

/// Arguments of every `exchange` command.
#[derive(Debug, Args)]
struct Caller {
    /// The agency's profile, as `init` makes it.
    #[arg(long = "as", value_name = "FILE")]
    profile: PathBuf,
    /// Purpose code of the agreement that allows this call. Each kind of exchange has its own, see docs/kinds.
    #[arg(long, default_value = purposes::FEE_WAIVER)]
    purpose: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `exchange submit`.
#[derive(Debug, Args)]
pub(super) struct Submit {
    #[command(flatten)]
    caller: Caller,
    /// JSON of SubmitExchangeRequest, `-` for standard input. What the profile knows may be left out of the
    /// envelope: request id, sender, region, operator, schema version; and the purpose where --purpose says it.
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// Request id of an earlier try: if that had effect, its answer comes again and nothing happens twice.
    #[arg(long, value_name = "UUID", default_value = "")]
    request_id: String,
}

/// Arguments of `exchange list`.
#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    caller: Caller,
    /// Only in this state, such as DECIDED.
    #[arg(long)]
    state: Option<String>,
    /// Only of this matter.
    #[arg(long, default_value = "")]
    matter: String,
    /// Only what is overdue by a time limit of the law.
    #[arg(long)]
    overdue: bool,
    /// At most so many.
    #[arg(long, default_value_t = 50)]
    limit: i32,
}

/// Arguments of `exchange show`.
#[derive(Debug, Args)]
pub(super) struct Show {
    #[command(flatten)]
    caller: Caller,
    /// The exchange.
    exchange_id: String,
}

/// Arguments of `exchange respond`.
#[derive(Debug, Args)]
pub(super) struct Respond {
    #[command(flatten)]
    caller: Caller,
    /// The exchange.
    exchange_id: String,
    /// JSON of Response, `-` for standard input, such as {"supplement": {"note": "…"}}.
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// Legal basis as LAW:ARTICLE; may be given several times. Without it, the article by which this kind of exchange
    /// goes.
    #[arg(long = "basis", value_name = "LAW:ARTICLE")]
    bases: Vec<String>,
    /// Request id of an earlier try: if that had effect, its answer comes again and nothing happens twice.
    #[arg(long, value_name = "UUID", default_value = "")]
    request_id: String,
}

/// Arguments of `exchange pull`.
#[derive(Debug, Args)]
pub(super) struct Pull {
    #[command(flatten)]
    caller: Caller,
    /// At most so many.
    #[arg(long, default_value_t = 10)]
    limit: i32,
    /// Acknowledge each delivery after it was printed; else it comes again when its lease has run out.
    #[arg(long)]
    acknowledge: bool,
    /// Send a receipt for each request that was printed.
    #[arg(long)]
    receipt: bool,
}

impl Caller {
    fn client(&self) -> anyhow::Result<AgencyClient> {
        Ok(AgencyClient::load(&self.profile, Clock::system())?)
    }
}

impl Exchange {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Submit(command) => command.run().await,
            Self::List(command) => command.run().await,
            Self::Show(command) => command.run().await,
            Self::Respond(command) => command.run().await,
            Self::Pull(command) => command.run().await,
            Self::Watch(command) => command.run().await,
            Self::Redeliver(command) => command.run().await,
        }
    }
}

impl Submit {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.caller.client()?;
        let mut request: proto::SubmitExchangeRequest =
            from_json("SubmitExchangeRequest", &read_text(&self.file)?)
                .with_context(|| format!("{} is not JSON of SubmitExchangeRequest", self.file.display()))?;
        let mut envelope = request.envelope.unwrap_or_default();
        if !self.request_id.is_empty() {
            envelope.request_id = self.request_id;
        }
        if envelope.purpose.is_empty() {
            envelope.purpose = self.caller.purpose;
        }
        let envelope = client.complete(envelope);
        let request_id = envelope.request_id.clone();
        request.envelope = Some(envelope);
        let response = client.exchanges().submit_exchange(client.request(request, DEADLINE)).await;
        let response = response.map_err(|status| explain_request(&status, &request_id))?.into_inner();
        if self.caller.json {
            say_json(&to_json("SubmitExchangeResponse", &response)?);
            return Ok(());
        }
        show_all(response.exchange.iter());
        for warning in &response.warnings {
            say(format_args!(
                "note: {}: {} ({})\n      {}",
                warning.field, warning.description, warning.article, warning.description_zh
            ));
        }
        say(format_args!("audit log index {}", response.audit.map_or(0, |audit| audit.log_index)));
        Ok(())
    }
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.caller.client()?;
        let state = match &self.state {
            None => proto::ExchangeState::Unspecified,
            Some(name) => {
                proto::ExchangeState::from_str_name(&format!("EXCHANGE_STATE_{}", name.to_uppercase()))
                    .ok_or_else(|| anyhow!("--state takes a state such as SUBMITTED, RECEIVED or DECIDED"))?
            }
        };
        let request = proto::ListExchangesRequest {
            context: Some(client.context(&self.caller.purpose)),
            state: state.into(),
            matter_id: self.matter,
            page_size: self.limit,
            page_token: String::new(),
            overdue: self.overdue,
        };
        let response = client.exchanges().list_exchanges(client.request(request, DEADLINE)).await;
        let response = response.map_err(|status| explain(&status))?.into_inner();
        if self.caller.json {
            say_json(&to_json("ListExchangesResponse", &response)?);
            return Ok(());
        }
        show_all(response.exchanges.iter());
        if !response.next_page_token.is_empty() {
            say("there are more; raise --limit (at most 200) or narrow by --state or --matter");
        }
        Ok(())
    }
}

impl Show {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.caller.client()?;
        let exchange = get(&client, &self.caller.purpose, &self.exchange_id).await?;
        if self.caller.json {
            say_json(&to_json("Exchange", &exchange)?);
            return Ok(());
        }
        show_all(std::iter::once(&exchange));
        show_clocks(&exchange);
        if let Some(erased) = &exchange.erase_time {
            let (at, by) = (show_time(erased), &exchange.erased_by);
            say(format_args!(
                "its messages and papers were erased on {at} by {by}; the audit log keeps the entries"
            ));
            return Ok(());
        }
        let mut rows = list(&["#", "accepted", "from", "message"]);
        for message in &exchange.thread {
            let sender =
                message.envelope.as_ref().map(|envelope| envelope.sender.clone()).unwrap_or_default();
            let time = message.accept_time.as_ref().map(show_time).unwrap_or_default();
            rows.add_row([message.sequence.to_string(), time, sender, what(message).to_owned()]);
        }
        say(rows);
        say("what each message says: --json");
        Ok(())
    }
}

impl Respond {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.caller.client()?;
        let response: proto::Response = from_json("Response", &read_text(&self.file)?)
            .with_context(|| format!("{} is not JSON of Response", self.file.display()))?;
        let exchange = get(&client, &self.caller.purpose, &self.exchange_id).await?;
        let legal_basis = self.bases.iter().map(|basis| parse_basis(basis)).collect::<Result<_, _>>()?;
        let given = proto::Envelope {
            request_id: self.request_id,
            legal_basis,
            purpose: self.caller.purpose,
            ..Default::default()
        };
        let response = answer(&client, exchange, given, response).await?;
        if self.caller.json {
            say_json(&to_json("RespondToExchangeResponse", &response)?);
            return Ok(());
        }
        show_all(response.exchange.iter());
        say(format_args!("audit log index {}", response.audit.map_or(0, |audit| audit.log_index)));
        Ok(())
    }
}

impl Pull {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.caller.client()?;
        let request = proto::PullDeliveriesRequest {
            context: Some(client.context(&self.caller.purpose)),
            max_deliveries: self.limit,
        };
        let response = client.exchanges().pull_deliveries(client.request(request, DEADLINE)).await;
        let response = response.map_err(|status| explain(&status))?.into_inner();
        let mut requests = Vec::new();
        let mut shown = Vec::new();
        let mut rows = list(&["delivery", "exchange", "#", "message"]);
        for delivery in &response.deliveries {
            let message = proto::ExchangeMessage::decode(delivery.message.as_slice())
                .context("a delivery is not an exchange message")?;
            shown.push(json!({
                "delivery_id": delivery.delivery_id,
                "attempt": delivery.attempt,
                "message_sha256": data_encoding::BASE64.encode(&delivery.message_sha256),
                "message": to_json("ExchangeMessage", &message)?,
            }));
            rows.add_row([
                delivery.delivery_id.clone(),
                message.exchange_id.clone(),
                message.sequence.to_string(),
                what(&message).to_owned(),
            ]);
            if matches!(message.body, Some(Body::Content(_))) {
                requests.push((message, &delivery.message_sha256));
            }
        }
        if self.caller.json {
            say_json(&json!({"deliveries": shown}));
        } else if response.deliveries.is_empty() {
            say("nothing waits");
        } else {
            say(rows);
        }
        for (request, message_sha256) in requests.iter().filter(|_| self.receipt) {
            confirm(&client, request, message_sha256).await?;
        }
        if self.acknowledge {
            for delivery in &response.deliveries {
                acknowledge(&client, &self.caller.purpose, delivery).await?;
            }
            if !self.caller.json && !response.deliveries.is_empty() {
                say(
                    "acknowledged; messages of one exchange come one after another, pull again until nothing waits",
                );
            }
        }
        Ok(())
    }
}

/// Confirms the opening of an exchange by a receipt, for the opening's own purpose, unless an earlier try has done so.
async fn confirm(
    client: &AgencyClient,
    opening: &proto::ExchangeMessage,
    message_sha256: &[u8],
) -> anyhow::Result<()> {
    let purpose = opening.envelope.as_ref().map(|envelope| envelope.purpose.clone()).unwrap_or_default();
    let exchange = get(client, &purpose, &opening.exchange_id).await?;
    if !matches!(exchange.state(), proto::ExchangeState::Submitted | proto::ExchangeState::Delivered) {
        return Ok(());
    }
    let receipt = proto::response::Kind::Receipt(proto::Receipt {
        message_sha256: message_sha256.to_vec(),
        received_at: Some(timestamp(client.now())),
        receipt_number: String::new(),
    });
    let given = proto::Envelope { purpose, ..Default::default() };
    answer(client, exchange, given, proto::Response { kind: Some(receipt) }).await.map(|_| ())
}

/// Answers in an exchange. Of the envelope, what the exchange knows is filled in; without a legal basis it is the
/// article of the kind.
async fn answer(
    client: &AgencyClient,
    exchange: proto::Exchange,
    given: proto::Envelope,
    response: proto::Response,
) -> anyhow::Result<proto::RespondToExchangeResponse> {
    let own = client.profile().agency.to_string();
    let other = if exchange.sender == own { exchange.recipient } else { exchange.sender };
    let mut legal_basis = given.legal_basis;
    if legal_basis.is_empty() {
        legal_basis.extend(usual_basis(exchange.kind));
    }
    let opening = exchange.thread.into_iter().next().and_then(|message| message.envelope).unwrap_or_default();
    let envelope = client.complete(proto::Envelope {
        matter_id: exchange.matter_id,
        kind: exchange.kind,
        recipient: other,
        region: exchange.region,
        legal_basis,
        classification: opening.classification,
        in_reply_to: exchange.exchange_id,
        ..given
    });
    let request_id = envelope.request_id.clone();
    let request = proto::RespondToExchangeRequest { envelope: Some(envelope), response: Some(response) };
    let answered = client.exchanges().respond_to_exchange(client.request(request, DEADLINE)).await;
    Ok(answered.map_err(|status| explain_request(&status, &request_id))?.into_inner())
}

/// Takes a delivery over.
pub(super) async fn acknowledge(
    client: &AgencyClient,
    purpose: &str,
    delivery: &proto::Delivery,
) -> anyhow::Result<()> {
    let request = proto::AcknowledgeDeliveryRequest {
        context: Some(client.context(purpose)),
        delivery_id: delivery.delivery_id.clone(),
        message_sha256: delivery.message_sha256.clone(),
    };
    let answer = client.exchanges().acknowledge_delivery(client.request(request, DEADLINE)).await;
    answer.map(|_| ()).map_err(|status| explain(&status))
}

/// Reads an exchange with its thread.
pub(super) async fn get(client: &AgencyClient, purpose: &str, id: &str) -> anyhow::Result<proto::Exchange> {
    let request =
        proto::GetExchangeRequest { context: Some(client.context(purpose)), exchange_id: id.to_owned() };
    let response = client.exchanges().get_exchange(client.request(request, DEADLINE)).await;
    let response = response.map_err(|status| explain(&status))?.into_inner();
    response.exchange.ok_or_else(|| anyhow!("the gateway answered without an exchange"))
}

/// The article by which a kind of exchange goes its first way.
fn usual_basis(kind: i32) -> Option<proto::LegalBasis> {
    let name = proto::Kind::try_from(kind).unwrap_or_default().as_str_name();
    let article = Kind::from_name(name.trim_start_matches("KIND_"))?.routes().next()?.article;
    Some(proto::LegalBasis { law: article.law().name().to_owned(), article: article.number()?.to_owned() })
}

fn show_all<'e>(exchanges: impl Iterator<Item = &'e proto::Exchange>) {
    let is_overdue = |clock: &proto::Clock| clock.overdue_from.is_some() && clock.stop_time.is_none();
    let mut rows = list(&["exchange", "kind", "state", "from", "to", "matter", "changed"]);
    for exchange in exchanges {
        let kind = proto::Kind::try_from(exchange.kind).unwrap_or_default();
        let state = proto::ExchangeState::try_from(exchange.state).unwrap_or_default();
        rows.add_row([
            exchange.exchange_id.clone(),
            kind.as_str_name().trim_start_matches("KIND_").to_owned(),
            format!(
                "{}{}",
                state.as_str_name().trim_start_matches("EXCHANGE_STATE_"),
                if exchange.clocks.iter().any(is_overdue) { " OVERDUE" } else { "" }
            ),
            exchange.sender.clone(),
            exchange.recipient.clone(),
            exchange.matter_id.clone(),
            exchange.update_time.as_ref().map(show_time).unwrap_or_default(),
        ]);
    }
    say(rows);
}

fn show_clocks(exchange: &proto::Exchange) {
    if exchange.clocks.is_empty() {
        return;
    }
    let mut rows = list(&["clock", "article", "due", "stands"]);
    for clock in &exchange.clocks {
        let due = match (&clock.due_on, &clock.due_time) {
            (Some(day), _) => format!("{:04}-{:02}-{:02}", day.year, day.month, day.day),
            (None, Some(at)) => show_time(at),
            (None, None) => String::new(),
        };
        let about = if clock.estimate { " (estimate)" } else { "" };
        let article = match (clock.articles.join(", "), clock.source()) {
            (articles, proto::ClockSource::PrimaryText) => articles,
            (articles, _) if articles.is_empty() => "(to be verified)".to_owned(),
            (articles, _) => format!("{articles} (to be verified)"),
        };
        rows.add_row([clock.clock_id.clone(), article, format!("{due}{about}"), stands(clock)]);
    }
    say(rows);
}

/// How a clock stands.
fn stands(clock: &proto::Clock) -> String {
    let late = clock.overdue_from.is_some();
    match &clock.stop_time {
        Some(at) if late => format!("stopped {}, late", show_time(at)),
        Some(at) => format!("stopped {}", show_time(at)),
        None if late => "OVERDUE".to_owned(),
        None => "running".to_owned(),
    }
}

/// What a message is, in a word.
pub(super) fn what(message: &proto::ExchangeMessage) -> &'static str {
    use proto::response::Kind;
    match &message.body {
        None => "nothing",
        Some(Body::Content(_)) => "request",
        Some(Body::Verification(_)) => "verification",
        Some(Body::Notice(_)) => "notice: deemed withdrawn",
        Some(Body::Response(response)) => match &response.kind {
            None => "nothing",
            Some(Kind::Receipt(_)) => "receipt",
            Some(Kind::SupplementRequest(_)) => "supplement request",
            Some(Kind::Supplement(_)) => "supplement",
            Some(Kind::Withdrawal(_)) => "withdrawal",
            Some(Kind::Closure(_)) => "closure",
            Some(Kind::FeeWaiverDecision(_) | Kind::JudicialReliefDecision(_)) => "decision",
            Some(Kind::AppealOutcome(outcome)) if outcome.result() == proto::AppealResult::Accepted => {
                "acceptance"
            }
            Some(Kind::AppealOutcome(_)) => "outcome",
            Some(Kind::CounselAssignment(_)) => "assignment",
            Some(Kind::DirectAssignmentAcknowledgement(_)) => "acknowledgement",
            Some(Kind::CooperationResult(_)) => "result",
        },
    }
}

pub(super) fn show_time(at: &prost_types::Timestamp) -> String {
    jiff::Timestamp::new(at.seconds, at.nanos).map(|at| format!("{at:.0}")).unwrap_or_default()
}
