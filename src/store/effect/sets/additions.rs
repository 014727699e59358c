//! What a set adds: rows of several tables, by one text.

use jiff::Timestamp;
use serde::Serialize;

use super::super::{NewDelivery, NewExchange};
use super::given::{column, given, hex, json};
use crate::domain::agency::CreditCode;
use crate::domain::clocks::StartedClock;
use crate::domain::exchange::{Change, ExchangeId, ExchangeState};
use crate::store::StoreError;
use crate::store::clocks::{BETWEEN_ARTICLES, Move};
use crate::store::database::{Connection, per_database, sql};

/// What is done to one table.
macro_rules! addition {
    (exchanges $database:ident) => {
        concat!(
            "INSERT INTO exchanges (exchange_id, kind, state, sender, recipient, matter_id, region, messages, created_us, \
             updated_us, track) SELECT id, kind, state, sender, recipient, matter, region, 1, at, at, track FROM ",
            given!($database "$1" id bytes kind text state text sender text recipient text matter text region text
                at number track text)
        )
    };
    (messages $database:ident) => {
        concat!(
            "INSERT INTO messages (exchange_id, sequence, message) SELECT id, number, \
             substr($3, CAST(starts AS INTEGER), CAST(length AS INTEGER)) FROM ",
            given!($database "$2" id bytes number number starts number length number)
        )
    };
    (deliveries $database:ident) => {
        concat!(
            "INSERT INTO deliveries (delivery_id, exchange_id, sequence, sender, recipient, state, attempts, due_us, created_us) \
             SELECT id, exchange, number, sender, recipient, 'PENDING', 0, at, at FROM ",
            given!($database "$4" id bytes exchange bytes number number sender text recipient text at number)
        )
    };
    (attachments $database:ident) => {
        concat!(
            "INSERT INTO exchange_attachments (exchange_id, named_by, digest) SELECT exchange, party, paper FROM ",
            given!($database "$5" exchange bytes party text paper bytes),
            " WHERE true ON CONFLICT DO NOTHING"
        )
    };
    // An answer may come late and yet before the timer's look: late it is all the same.
    (stopped $database:ident) => {
        concat!(
            "UPDATE running_clocks SET stopped_us = at, \
             overdue_us = COALESCE(overdue_us, CASE WHEN answered <> 0 AND due_us <= at THEN due_us END) FROM ",
            given!($database "$6" exchange bytes name text answered number at number),
            " WHERE exchange_id = exchange AND clock = name AND stopped_us IS NULL"
        )
    };
    (started $database:ident) => {
        concat!(
            "INSERT INTO running_clocks (exchange_id, clock, round, articles, source, started_us, due_us, due_on, estimate) \
             SELECT exchange, name, 1 + (SELECT COUNT(*) FROM running_clocks r WHERE r.exchange_id = exchange \
             AND r.clock = name), laws, mark, at, ends, last_day, guessed FROM ",
            given!($database "$7" exchange bytes name text laws text mark text at number ends number last_day text
                guessed number)
        )
    };
    // Numbers are drawn in this order.
    (events $database:ident) => {
        concat!(
            "INSERT INTO exchange_events (exchange_id, sender, recipient, change, state, message, changed_us) \
             SELECT id, sender, recipient, change, state, message, at FROM ",
            given!($database "$8" id bytes sender text recipient text change text state text message number at number),
            " ORDER BY place"
        )
    };
}

const ON_SQLITE: &str = concat!(
    addition!(exchanges sqlite),
    "; ",
    addition!(messages sqlite),
    "; ",
    addition!(deliveries sqlite),
    "; ",
    addition!(attachments sqlite),
    "; ",
    addition!(stopped sqlite),
    "; ",
    addition!(started sqlite),
    "; ",
    addition!(events sqlite),
);

/// There the parts do not see what the others write, and need not.
const ON_POSTGRES: &str = concat!(
    "WITH opened AS (",
    addition!(exchanges postgres),
    "), said AS (",
    addition!(messages postgres),
    "), sent AS (",
    addition!(deliveries postgres),
    "), named AS (",
    addition!(attachments postgres),
    "), ended AS (",
    addition!(stopped postgres),
    "), begun AS (",
    addition!(started postgres),
    ") ",
    addition!(events postgres),
);

/// What a set adds to tables.
#[derive(Default)]
pub(super) struct NewRows<'b> {
    pub(super) exchanges: Vec<ExchangeRow<'b>>,
    pub(super) messages: Messages,
    pub(super) deliveries: Vec<DeliveryRow<'b>>,
    pub(super) attachments: Vec<AttachmentRow<'b>>,
    pub(super) stopped: Vec<StopRow<'b>>,
    pub(super) started: Vec<StartRow>,
    /// Each with the place of its effect.
    pub(super) events: Vec<(u32, EventRow<'b>)>,
}

impl NewRows<'_> {
    /// Adds them.
    pub(super) async fn write(mut self, connection: &mut Connection<'_>) -> Result<(), StoreError> {
        // Whatever changes an exchange is an event; attachments alone are none.
        if self.events.is_empty() && self.attachments.is_empty() {
            return Ok(());
        }
        self.events.sort_by_key(|(place, _)| *place);
        let events: Vec<_> = self.events.into_iter().map(|(_, event)| event).collect();
        sql(per_database! { sqlite: ON_SQLITE, postgres: ON_POSTGRES })
            .bind(json(&self.exchanges)?)
            .bind(json(&self.messages.rows)?)
            .bind(self.messages.bytes)
            .bind(json(&self.deliveries)?)
            .bind(json(&self.attachments)?)
            .bind(json(&self.stopped)?)
            .bind(json(&self.started)?)
            .bind(json(&events)?)
            .execute(connection)
            .await?;
        Ok(())
    }
}

#[derive(Serialize)]
pub(super) struct ExchangeRow<'b> {
    id: String,
    kind: &'static str,
    state: &'static str,
    sender: &'b str,
    recipient: &'b str,
    matter: &'b str,
    region: String,
    at: i64,
    track: Option<&'static str>,
}

impl<'b> ExchangeRow<'b> {
    pub(super) fn new(new: &'b NewExchange, state: ExchangeState) -> Self {
        Self {
            id: hex(new.exchange_id.as_bytes()),
            kind: new.kind.as_str(),
            state: state.as_str(),
            sender: new.sender.as_str(),
            recipient: new.recipient.as_str(),
            matter: &new.matter_id,
            region: new.region.to_string(),
            at: new.at.as_microsecond(),
            track: new.track,
        }
    }
}

/// Messages, whose bytes travel as one run.
#[derive(Default)]
pub(super) struct Messages {
    rows: Vec<MessageRow>,
    bytes: Vec<u8>,
}

#[derive(Serialize)]
struct MessageRow {
    id: String,
    number: u32,
    /// Of its bytes in the run; the first byte is 1.
    starts: usize,
    length: usize,
}

impl Messages {
    pub(super) fn push(&mut self, exchange_id: &ExchangeId, number: u32, message: &[u8]) {
        let (id, starts, length) = (hex(exchange_id.as_bytes()), self.bytes.len() + 1, message.len());
        self.rows.push(MessageRow { id, number, starts, length });
        self.bytes.extend_from_slice(message);
    }
}

#[derive(Serialize)]
pub(super) struct DeliveryRow<'b> {
    id: String,
    exchange: String,
    number: u32,
    sender: &'b str,
    recipient: &'b str,
    at: i64,
}

impl<'b> DeliveryRow<'b> {
    pub(super) fn new(new: &'b NewDelivery, exchange_id: &ExchangeId, number: u32, at: Timestamp) -> Self {
        Self {
            id: hex(new.delivery_id.as_bytes()),
            exchange: hex(exchange_id.as_bytes()),
            number,
            sender: new.sender.as_str(),
            recipient: new.recipient.as_str(),
            at: at.as_microsecond(),
        }
    }
}

#[derive(Serialize)]
pub(super) struct AttachmentRow<'b> {
    exchange: String,
    party: &'b str,
    paper: String,
}

impl<'b> AttachmentRow<'b> {
    pub(super) fn new(exchange_id: &ExchangeId, named_by: &'b CreditCode, digest: &[u8; 32]) -> Self {
        Self { exchange: hex(exchange_id.as_bytes()), party: named_by.as_str(), paper: hex(digest) }
    }
}

/// A clock that stops.
#[derive(Serialize)]
pub(super) struct StopRow<'b> {
    exchange: String,
    name: &'b str,
    answered: u8,
    at: i64,
}

impl<'b> StopRow<'b> {
    pub(super) fn new(exchange_id: &ExchangeId, name: &'b str, moved: &Move) -> Self {
        let (answered, at) = (u8::from(moved.by.is_some()), moved.at.as_microsecond());
        Self { exchange: hex(exchange_id.as_bytes()), name, answered, at }
    }
}

/// A clock that starts.
#[derive(Serialize)]
pub(super) struct StartRow {
    exchange: String,
    name: String,
    laws: String,
    mark: &'static str,
    at: i64,
    ends: i64,
    last_day: Option<String>,
    guessed: u8,
}

impl StartRow {
    pub(super) fn new(exchange_id: &ExchangeId, at: Timestamp, clock: StartedClock) -> Self {
        Self {
            exchange: hex(exchange_id.as_bytes()),
            name: clock.id,
            laws: clock.articles.join(BETWEEN_ARTICLES),
            mark: clock.source.as_str(),
            at: at.as_microsecond(),
            ends: clock.due.at.as_microsecond(),
            last_day: clock.due.on.map(|day| day.to_string()),
            guessed: u8::from(clock.due.is_estimate),
        }
    }
}

/// A change of an exchange, for who follows it.
#[derive(Serialize)]
pub(super) struct EventRow<'b> {
    id: String,
    sender: &'b str,
    recipient: &'b str,
    change: &'static str,
    state: &'static str,
    message: u32,
    at: i64,
}

impl<'b> EventRow<'b> {
    pub(super) fn new(
        exchange_id: &ExchangeId,
        (sender, recipient): (&'b str, &'b str),
        change: Change,
        state: ExchangeState,
        message: u32,
        at: Timestamp,
    ) -> Self {
        let (change, state, at) = (change.as_str(), state.as_str(), at.as_microsecond());
        Self { id: hex(exchange_id.as_bytes()), sender, recipient, change, state, message, at }
    }
}
