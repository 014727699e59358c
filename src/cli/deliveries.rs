//! `deliveries`: the operator's view of the outbox.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::exchange::show_time;
use super::output::{explain, explain_request, list, say, say_json};
use crate::client::AgencyClient;
use crate::clock::Clock;
use crate::grpc::json::to_json;
use crate::grpc::proto;
use crate::grpc::wire::timestamp;
use crate::setup::purposes;

pub(super) const DEADLINE: Duration = Duration::from_secs(10);

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Deliveries {
    /// List what is not delivered, oldest first: for whom, since when, how often it was tried, why that failed.
    List(List),
    /// Show one delivery.
    Show(Show),
    /// Have a delivery that waits for its next attempt tried now.
    Retry(Retry),
}

/// Arguments of every command of the operator.
#[derive(Debug, Args)]
pub(super) struct Operator {
    /// The operator's profile, as `init` makes it.
    #[arg(long = "as", value_name = "FILE")]
    profile: PathBuf,
    /// Purpose code of the agreement.
    #[arg(long, default_value = purposes::GATEWAY_OPERATION)]
    purpose: String,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

impl Operator {
    pub(super) fn client(&self) -> anyhow::Result<AgencyClient> {
        Ok(AgencyClient::load(&self.profile, Clock::system())?)
    }

    /// The context of a call, with the request id of an earlier try if there is one.
    pub(super) fn context(&self, client: &AgencyClient, request_id: Option<String>) -> proto::CallContext {
        let context = client.context(&self.purpose);
        proto::CallContext { request_id: request_id.unwrap_or(context.request_id), ..context }
    }
}

/// Arguments of `deliveries list`.
#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    operator: Operator,
    /// Only in this state; without it, all that are not delivered.
    #[arg(long, value_enum)]
    state: Option<State>,
    /// Only to this agency.
    #[arg(long, value_name = "CODE", default_value = "")]
    recipient: String,
    /// Only those that are older, such as 90m, 36h or "2d 12h".
    #[arg(long, value_name = "DURATION")]
    older_than: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 50)]
    limit: usize,
}

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    /// It waits for its next attempt, or to be pulled.
    Pending,
    /// It is on its way: an attempt is made, or it was pulled and not yet acknowledged.
    Leased,
    /// The recipient has it.
    Delivered,
    /// It was given up; `exchange redeliver` has it delivered again.
    Dead,
}

/// Arguments of `deliveries show`.
#[derive(Debug, Args)]
pub(super) struct Show {
    #[command(flatten)]
    operator: Operator,
    /// The delivery.
    delivery_id: String,
}

/// Arguments of `deliveries retry`.
#[derive(Debug, Args)]
pub(super) struct Retry {
    #[command(flatten)]
    operator: Operator,
    /// The delivery.
    delivery_id: String,
    /// Request id of an earlier try: if that had effect, its answer comes again and nothing happens twice.
    #[arg(long, value_name = "UUID")]
    request_id: Option<String>,
}

impl Deliveries {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List(command) => command.run().await,
            Self::Show(command) => command.run().await,
            Self::Retry(command) => command.run().await,
        }
    }
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.operator.client()?;
        let state = match self.state {
            None => proto::DeliveryState::Unspecified,
            Some(State::Pending) => proto::DeliveryState::Pending,
            Some(State::Leased) => proto::DeliveryState::Leased,
            Some(State::Delivered) => proto::DeliveryState::Delivered,
            Some(State::Dead) => proto::DeliveryState::Dead,
        };
        let created_before =
            self.older_than.as_deref().map(|age| before(client.now(), age)).transpose()?.map(timestamp);
        let (mut deliveries, mut page_token) = (Vec::new(), String::new());
        loop {
            let left = self.limit.saturating_sub(deliveries.len());
            let request = proto::ListDeliveriesRequest {
                context: Some(self.operator.context(&client, None)),
                state: state.into(),
                recipient: self.recipient.clone(),
                created_before,
                page_size: i32::try_from(left.clamp(1, 500)).unwrap_or(500),
                page_token,
            };
            let page = client.exchanges().list_deliveries(client.request(request, DEADLINE)).await;
            let page = page.map_err(|status| explain(&status))?.into_inner();
            deliveries.extend(page.deliveries);
            page_token = page.next_page_token;
            if page_token.is_empty() || deliveries.len() >= self.limit {
                break;
            }
        }
        deliveries.truncate(self.limit);
        let more = !page_token.is_empty();
        if self.operator.json {
            let shown = deliveries.iter().map(|delivery| to_json("OutboxDelivery", delivery));
            let shown = shown.collect::<Result<Vec<_>, _>>()?;
            say_json(&json!({"deliveries": shown, "more": more}));
            return Ok(());
        }
        if deliveries.is_empty() {
            say("none");
            return Ok(());
        }
        show(client.now(), deliveries.iter());
        if more {
            say("there are more; raise --limit or narrow by --state, --recipient or --older-than");
        }
        Ok(())
    }
}

impl Show {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.operator.client()?;
        let request = proto::GetDeliveryRequest {
            context: Some(self.operator.context(&client, None)),
            delivery_id: self.delivery_id,
        };
        let answer = client.exchanges().get_delivery(client.request(request, DEADLINE)).await;
        let answer = answer.map_err(|status| explain(&status))?.into_inner();
        if self.operator.json {
            say_json(&to_json("GetDeliveryResponse", &answer)?);
            return Ok(());
        }
        show(client.now(), answer.delivery.iter());
        if let Some(delivery) = &answer.delivery {
            say(next_step(delivery));
        }
        Ok(())
    }
}

impl Retry {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.operator.client()?;
        let context = self.operator.context(&client, self.request_id);
        let request_id = context.request_id.clone();
        let request = proto::RetryDeliveryRequest { context: Some(context), delivery_id: self.delivery_id };
        let answer = client.exchanges().retry_delivery(client.request(request, DEADLINE)).await;
        let answer = answer.map_err(|status| explain_request(&status, &request_id))?.into_inner();
        if self.operator.json {
            say_json(&to_json("RetryDeliveryResponse", &answer)?);
            return Ok(());
        }
        show(client.now(), answer.delivery.iter());
        say(format_args!("audit log index {}", answer.audit.map_or(0, |audit| audit.log_index)));
        Ok(())
    }
}

/// The instant before which everything is older.
fn before(now: Timestamp, age: &str) -> anyhow::Result<Timestamp> {
    let span: jiff::Span =
        age.parse().context("--older-than takes a duration such as 90m, 36h or \"2d 12h\"")?;
    let age = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours())?;
    now.checked_sub(age).context("--older-than reaches too far back")
}

/// A table of deliveries.
pub(super) fn show<'d>(now: Timestamp, deliveries: impl Iterator<Item = &'d proto::OutboxDelivery>) {
    let mut rows =
        list(&["delivery", "exchange", "#", "to", "state", "tries", "age", "next", "last failure"]);
    for delivery in deliveries {
        rows.add_row([
            delivery.delivery_id.clone(),
            delivery.exchange_id.clone(),
            delivery.message_sequence.to_string(),
            delivery.recipient.clone(),
            state_name(delivery).to_owned(),
            delivery.attempts.to_string(),
            delivery.create_time.as_ref().map(|at| age(now, at)).unwrap_or_default(),
            delivery.due_time.as_ref().map(show_time).unwrap_or_default(),
            delivery.last_failure.clone(),
        ]);
    }
    say(rows);
}

fn state_name(delivery: &proto::OutboxDelivery) -> &'static str {
    let state = proto::DeliveryState::try_from(delivery.state).unwrap_or_default();
    state.as_str_name().trim_start_matches("DELIVERY_STATE_")
}

/// How long ago, in its two largest units.
fn age(now: Timestamp, since: &prost_types::Timestamp) -> String {
    let since = Timestamp::new(since.seconds, since.nanos).unwrap_or(now);
    let seconds = now.duration_since(since).max(SignedDuration::ZERO).as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m {}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h {minutes}m"),
        (days, hours, _) => format!("{days}d {hours}h"),
    }
}

/// What the operator can do now.
fn next_step(delivery: &proto::OutboxDelivery) -> String {
    match delivery.state() {
        proto::DeliveryState::Pending if delivery.attempts == 0 => {
            "it waits for the recipient: an agency without an endpoint in directory.toml pulls".to_owned()
        }
        proto::DeliveryState::Pending => {
            format!("to have it tried now: deliveries retry {}", delivery.delivery_id)
        }
        proto::DeliveryState::Leased => {
            "it is on its way; it waits again if that fails, or when the lease ends".to_owned()
        }
        proto::DeliveryState::Delivered => "the recipient has it".to_owned(),
        proto::DeliveryState::Dead | proto::DeliveryState::Unspecified => {
            format!("once the recipient is back: exchange redeliver {} --reason …", delivery.exchange_id)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_shown_in_its_two_largest_units() {
        let now = Timestamp::constant(1_000_000, 0);
        let ago = |seconds: i64| age(now, &prost_types::Timestamp { seconds: 1_000_000 - seconds, nanos: 0 });
        assert_eq!(ago(7), "7s");
        assert_eq!(ago(130), "2m 10s");
        assert_eq!(ago(3 * 3600 + 120), "3h 2m");
        assert_eq!(ago(2 * 86_400 + 3600), "2d 1h");
        assert_eq!(ago(-5), "0s");
    }

    #[test]
    fn what_is_older_is_said_as_people_say_it() {
        let now = Timestamp::constant(1_000_000, 0);
        assert_eq!(before(now, "2d 12h").unwrap().as_second(), 1_000_000 - 60 * 3600);
        assert_eq!(before(now, "90m").unwrap().as_second(), 1_000_000 - 5400);
        assert!(before(now, "soon").is_err());
    }
}
