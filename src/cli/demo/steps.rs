//! The steps: each checks what it claims, and says what a clerk should see.

mod appeal;
mod centres;
mod court;
mod evidence;
mod examples;
mod follow;
mod households;
mod log;
mod refusals;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use prost::Message as _;

use self::follow::Follower;
use crate::audit::entry::Entry;
use crate::audit::note::VerifyingKey;
use crate::cli::exchange::{acknowledge, get, what};
use crate::cli::output::explain;
use crate::client::{AgencyClient, TransferError};
use crate::grpc::generated::google::r#type::Date;
use crate::grpc::proto;
use crate::grpc::proto::exchange_message::Body;
use crate::grpc::proto::response::Kind as Arm;
use crate::setup::purposes;
use crate::simulator::district::District;
use crate::witness::Witness;

const DEADLINE: Duration = Duration::from_secs(10);

/// How long another party may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long to wait before looking again.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a clerk is told of a step, in Chinese and English.
pub(super) struct Told {
    pub(super) title: (&'static str, &'static str),
    pub(super) parties: (&'static str, &'static str),
    pub(super) result: (String, String),
    pub(super) log_index: Option<u64>,
}

impl Told {
    /// A step that missed.
    pub(super) fn missed(error: &anyhow::Error) -> Self {
        let text = format!("{error:#}");
        Self {
            title: ("", ""), parties: ("未达到", "missed"), result: (text.clone(), text), log_index: None
        }
    }
}

/// What the demo found about the log.
#[derive(Default)]
pub(super) struct AuditResult {
    pub(super) size: u64,
    pub(super) root: String,
    pub(super) verified: bool,
    pub(super) tamper_detected: bool,
}

/// An exchange that came to its decision.
struct Answered {
    exchange: proto::Exchange,
    /// Index of the entry that witnesses the decision.
    log_index: u64,
}

/// The way through the steps.
pub(super) struct Walk {
    /// `None` once it was stopped.
    district: Option<District>,
    /// The court's witness of the log.
    witness: Witness,
    folder: PathBuf,
    key: VerifyingKey,
    centre: AgencyClient,
    court: AgencyClient,
    auditor: AgencyClient,
    operator: AgencyClient,
    follower: Follower,
    /// The verification that is completed later.
    pending: Option<String>,
    submitted: Option<(proto::SubmitExchangeRequest, proto::SubmitExchangeResponse)>,
    fee_waiver: Option<proto::Exchange>,
    decision_index: Option<u64>,
    /// The appeal referral that is under way.
    referral: Option<String>,
    /// How many messages each exchange had when it was decided.
    ended: BTreeMap<String, u32>,
    checkpoint: Option<String>,
    audit: AuditResult,
}

impl Walk {
    pub(super) fn new(district: District, witness: Witness) -> anyhow::Result<Self> {
        let (centre, court) = (district.client("centre")?, district.client("court")?);
        let (auditor, operator) = (district.client("auditor")?, district.client("operator")?);
        let folder = district.folder().to_owned();
        let key = district.gateway.log_key().clone();
        std::fs::write(folder.join("log.pub"), format!("{key}\n"))?;
        Ok(Self {
            district: Some(district),
            witness,
            folder,
            key,
            follower: Follower::start(centre.clone()),
            centre,
            court,
            auditor,
            operator,
            pending: None,
            submitted: None,
            fee_waiver: None,
            decision_index: None,
            referral: None,
            ended: BTreeMap::new(),
            checkpoint: None,
            audit: AuditResult::default(),
        })
    }

    /// Stops what still runs.
    pub(super) async fn finish(self) -> AuditResult {
        self.follower.stop();
        if let Some(district) = self.district {
            district.stop().await;
        }
        self.witness.stop().await;
        self.audit
    }

    fn district(&mut self) -> anyhow::Result<&mut District> {
        self.district.as_mut().context("the district was stopped")
    }

    /// Pulls the centre's deliveries until all of `wanted` in an exchange have come, and acknowledges each. Returns
    /// those of the exchange.
    async fn take(
        &self,
        purpose: &str,
        exchange_id: &str,
        wanted: &[&str],
    ) -> anyhow::Result<Vec<proto::ExchangeMessage>> {
        let started = Instant::now();
        let (mut missing, mut taken) = (wanted.to_vec(), Vec::new());
        while !missing.is_empty() {
            ensure!(started.elapsed() < PATIENCE, "the other side did not send: {}", missing.join(", "));
            let request = proto::PullDeliveriesRequest {
                context: Some(self.centre.context(purpose)),
                max_deliveries: 10,
            };
            let pulled =
                self.centre.exchanges().pull_deliveries(self.centre.request(request, DEADLINE)).await;
            let pulled = pulled.map_err(|status| explain(&status))?.into_inner();
            if pulled.deliveries.is_empty() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            for delivery in pulled.deliveries {
                let message = proto::ExchangeMessage::decode(delivery.message.as_slice())?;
                acknowledge(&self.centre, purpose, &delivery).await?;
                if message.exchange_id == exchange_id {
                    missing.retain(|kind| *kind != what(&message));
                    taken.push(message);
                }
            }
        }
        Ok(taken)
    }

    /// Hands in what was asked for.
    async fn supplement(
        &self,
        purpose: &str,
        exchange_id: &str,
        note: &str,
        attachments: Vec<proto::Attachment>,
    ) -> anyhow::Result<()> {
        let exchange = get(&self.centre, purpose, exchange_id).await?;
        let opening = exchange.thread.into_iter().next().and_then(|message| message.envelope);
        let opening = opening.context("the exchange has no opening")?;
        let envelope = self.centre.complete(proto::Envelope {
            matter_id: exchange.matter_id,
            kind: exchange.kind,
            recipient: exchange.recipient,
            legal_basis: opening.legal_basis,
            purpose: purpose.to_owned(),
            classification: opening.classification,
            in_reply_to: exchange_id.to_owned(),
            attachments,
            ..Default::default()
        });
        let supplement = proto::Supplement { note: note.to_owned() };
        let request = proto::RespondToExchangeRequest {
            envelope: Some(envelope),
            response: Some(proto::Response { kind: Some(Arm::Supplement(supplement)) }),
        };
        let answered =
            self.centre.exchanges().respond_to_exchange(self.centre.request(request, DEADLINE)).await;
        answered.map(|_| ()).map_err(|status| explain(&status))
    }

    /// Waits until an exchange is decided, and checks that its thread is as expected.
    async fn decided(
        &mut self,
        reader: &AgencyClient,
        purpose: &str,
        exchange_id: &str,
        decider: &str,
        expected: &[&str],
    ) -> anyhow::Result<Answered> {
        let started = Instant::now();
        let exchange = loop {
            let exchange = get(reader, purpose, exchange_id).await?;
            if exchange.state() == proto::ExchangeState::Decided {
                break exchange;
            }
            let state = exchange.state().as_str_name();
            ensure!(started.elapsed() < PATIENCE, "the exchange stays {state}");
            tokio::time::sleep(2 * LOOK_EVERY).await;
        };
        let thread: Vec<_> = exchange.thread.iter().map(what).collect();
        ensure!(thread == expected, "the thread is {thread:?}");
        let log_index = self.index_of("RespondToExchange", exchange_id, decider).await?;
        self.ended.insert(exchange_id.to_owned(), u32::try_from(thread.len())?);
        Ok(Answered { exchange, log_index })
    }

    /// The entry that witnesses an agency's last answered call of a method, in an exchange where one is named.
    async fn index_of(&self, method: &str, exchange_id: &str, caller: &str) -> anyhow::Result<u64> {
        let request = proto::ListEntriesRequest {
            context: Some(self.auditor.context(purposes::AUDIT_INSPECTION)),
            filter: Some(proto::EntryFilter {
                exchange_id: exchange_id.to_owned(),
                caller: caller.to_owned(),
                method: method.to_owned(),
                phase: "RESPONSE".to_owned(),
                ..Default::default()
            }),
            page_size: 500,
            page_token: String::new(),
            newest_first: false,
        };
        let found = self.auditor.audit().list_entries(self.auditor.request(request, DEADLINE)).await;
        let found = found.map_err(|status| explain(&status))?.into_inner().entries;
        found.last().map(|stored| stored.index).ok_or_else(|| anyhow!("{method} has no entry"))
    }

    async fn entry(&self, index: u64) -> anyhow::Result<Entry> {
        let request =
            proto::GetEntryRequest { context: Some(self.auditor.context(purposes::AUDIT_INSPECTION)), index };
        let stored = self.auditor.audit().get_entry(self.auditor.request(request, DEADLINE)).await;
        let stored =
            stored.map_err(|status| explain(&status))?.into_inner().entry.context("no such entry")?;
        Ok(Entry::from_json(&stored.entry)?)
    }
}

async fn submit(
    from: &AgencyClient,
    request: &proto::SubmitExchangeRequest,
) -> anyhow::Result<proto::SubmitExchangeResponse> {
    let submitted = from.exchanges().submit_exchange(from.request(request.clone(), DEADLINE)).await;
    Ok(submitted.map_err(|status| explain(&status))?.into_inner())
}

/// The last answer in an exchange.
fn arm(exchange: &proto::Exchange) -> Option<&Arm> {
    match &exchange.thread.last()?.body {
        Some(Body::Response(response)) => response.kind.as_ref(),
        _ => None,
    }
}

/// A clock of an exchange by its id.
fn clock<'e>(exchange: &'e proto::Exchange, id: &str) -> anyhow::Result<&'e proto::Clock> {
    let found = exchange.clocks.iter().find(|clock| clock.clock_id == id);
    found.with_context(|| format!("the exchange has no clock {id}"))
}

fn day(day: Option<&Date>) -> String {
    day.map(|day| format!("{:04}-{:02}-{:02}", day.year, day.month, day.day)).unwrap_or_default()
}

fn explain_transfer(error: TransferError) -> anyhow::Error {
    match error {
        TransferError::Refused(status) => explain(&status),
        other => other.into(),
    }
}

fn index(audit: Option<&proto::AuditReceipt>) -> Option<u64> {
    audit.map(|audit| audit.log_index)
}
