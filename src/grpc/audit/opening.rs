//! `OpenEntry`: what an entry only commits to, for those entitled to it.

use prost::Message as _;

use super::receipt::concerns;
use super::removal::kind_on_wire;
use super::{context, entry_on_wire};
use crate::access::Method;
use crate::audit::entry::{Commitment, Entry, Field, Phase};
use crate::audit::log::Storage as _;
use crate::audit::secret::commitment;
use crate::audit::verifier::RemovedRange;
use crate::domain::agency::{AgencyKind, CreditCode};
use crate::domain::exchange::ExchangeId;
use crate::grpc::call::Call;
use crate::grpc::intake::{Intake, store_refusal};
use crate::grpc::operation::{Facts, Lookup, Operation, Reading};
use crate::grpc::proto;
use crate::grpc::proto::exchange_message::Body;
use crate::grpc::status::Refusal;
use crate::grpc::wire::{timestamp, word};

/// Entries looked through for the one that ends a REQUEST.
const LOOKED_THROUGH: u32 = 2_048;

pub(super) struct OpenEntry;

impl Operation for OpenEntry {
    const METHOD: Method = Method::OpenEntry;
    type Request = proto::OpenEntryRequest;
    type Response = proto::OpenEntryResponse;
    type Task = (u64, Vec<Field>);

    fn read(request: Self::Request, reading: &mut Reading) -> Option<Self::Task> {
        context(reading, request.context.as_ref());
        let v = &mut reading.violations;
        if request.fields.is_empty() {
            return v.require("fields", None);
        }
        let stated = request.fields.iter().take(Field::ALL.len()).enumerate();
        let fields = stated.map(|(place, value)| word(v, &format!("fields[{place}]"), *value, field));
        Some((request.index, fields.collect::<Vec<_>>().into_iter().collect::<Option<_>>()?))
    }
}

impl Lookup for OpenEntry {
    async fn look_up(
        intake: &Intake,
        call: &Call,
        (index, fields): Self::Task,
        _: &mut Facts,
    ) -> Result<Self::Response, Refusal> {
        let found = intake.store.entry(index).await.map_err(|error| store_refusal(&error))?;
        let stored = found.filter(|_| index < intake.log.head().size).ok_or(Refusal::NotFound)?;
        let is_auditor = intake
            .directory
            .load()
            .agency(&call.caller())
            .is_some_and(|agency| agency.kind == AgencyKind::Auditor);
        let entry = if stored.is_pruned() {
            None
        } else {
            Some(Entry::from_json(&stored.entry).map_err(|_| Refusal::Internal)?)
        };
        let may_open = |entry: &Entry| fields.iter().all(|field| is_for(&call.caller(), entry, *field));
        let is_entitled = is_auditor || entry.as_ref().is_some_and(may_open);
        if !is_entitled {
            return Err(Refusal::NotFound);
        }
        let kept = intake.store.kept_salt(index).await.map_err(|error| store_refusal(&error))?;
        let mut opened = Vec::with_capacity(fields.len());
        for field in fields {
            let committed = entry.as_ref().and_then(|entry| commitment_of(entry, field));
            let mut answer = proto::OpenedField { field: on_wire(field).into(), ..Default::default() };
            let not_opened = match (&entry, committed, kept.of(field)) {
                (None, ..) => proto::NotOpened::Pruned,
                (_, None, _) => proto::NotOpened::NotCommitted,
                (_, _, None) => proto::NotOpened::Erased,
                (Some(entry), Some(committed), Some(salt)) => {
                    let value = value_of(intake, index, entry, field, &|bytes| {
                        commitment(&salt, bytes) == *committed
                    })
                    .await?;
                    answer.salt = salt.clone();
                    match value {
                        Some(value) => {
                            answer.value = value;
                            proto::NotOpened::Unspecified
                        }
                        None => proto::NotOpened::ValueNotKept,
                    }
                }
            };
            answer.not_opened = not_opened.into();
            opened.push(answer);
        }
        let entry = with_removal(intake, entry_on_wire(stored)).await?;
        Ok(proto::OpenEntryResponse { entry: Some(entry), fields: opened, audit: None })
    }
}

/// An entry with what took something of it away, as another entry tells. A table says only which entry that is.
pub(super) async fn with_removal(
    intake: &Intake,
    entry: proto::AuditEntry,
) -> Result<proto::AuditEntry, Refusal> {
    let failed = |error| store_refusal(&error);
    let telling = match intake.store.removal_of(entry.index).await.map_err(failed)? {
        Some(index) => intake.store.entry(index).await.map_err(failed)?,
        None => None,
    };
    let told = telling.and_then(|telling| RemovedRange::told_by(telling.index, &telling.entry));
    let removed = told.filter(|told| told.entries.contains(entry.index)).map(|told| proto::Removed {
        kind: kind_on_wire(told.kind).into(),
        remove_time: Some(timestamp(told.at)),
        agency: told.by,
        log_index: told.told_at,
    });
    Ok(proto::AuditEntry { removed, ..entry })
}

/// Whether an agency may open a field: of its own call the request and the answer, of one that came to it the request.
/// What the gateway answered was for the caller alone.
fn is_for(agency: &CreditCode, entry: &Entry, field: Field) -> bool {
    let is_caller = entry.caller.as_deref() == Some(agency.as_str());
    match field {
        Field::Request => concerns(agency, entry),
        Field::Response => is_caller,
        Field::OperatorName | Field::Subject => false,
    }
}

/// What an entry commits to as a field.
fn commitment_of(entry: &Entry, field: Field) -> Option<&Commitment> {
    match field {
        Field::OperatorName => entry.operator_name.as_ref(),
        Field::Subject => entry.subject_commitment.as_ref(),
        Field::Request => entry.request_commitment.as_ref(),
        Field::Response => entry.response_commitment.as_ref(),
    }
}

/// The value of a field, where something that the gateway keeps is what the entry commits to.
async fn value_of(
    intake: &Intake,
    index: u64,
    entry: &Entry,
    field: Field,
    is_committed: &(dyn Fn(&[u8]) -> bool + Sync),
) -> Result<Option<Vec<u8>>, Refusal> {
    let refusal = |error: &_| store_refusal(error);
    match field {
        // They stand in messages only.
        Field::OperatorName | Field::Subject => Ok(None),
        Field::Response => {
            let Some(request) = entry.request_index else { return Ok(None) };
            let kept = intake.store.outcome(request).await.map_err(|error| refusal(&error))?;
            Ok(kept.filter(|bytes| is_committed(bytes)))
        }
        Field::Request => {
            let mut exchange = entry.exchange;
            if exchange.is_none() && entry.phase == Phase::Request {
                let next = intake.store.entries(index + 1, LOOKED_THROUGH).await;
                let next = next.map_err(|error| refusal(&error))?;
                let mut ends = next.iter().filter_map(|stored| Entry::from_json(&stored.entry).ok());
                exchange = ends.find(|end| end.request_index == Some(index)).and_then(|end| end.exchange);
            }
            let Some(exchange) = exchange.map(ExchangeId::new) else { return Ok(None) };
            if intake.store.is_erased(&exchange).await.map_err(|error| refusal(&error))? {
                return Ok(None);
            }
            let messages = intake.store.messages(&exchange).await.map_err(|error| refusal(&error))?;
            let candidates = messages.into_iter().flat_map(|stored| {
                let request = request_of(&stored.message);
                std::iter::once(stored.message).chain(request)
            });
            Ok(candidates.into_iter().find(|bytes| is_committed(bytes)))
        }
    }
}

/// The request by which a message came in.
fn request_of(message: &[u8]) -> Option<Vec<u8>> {
    let message = proto::ExchangeMessage::decode(message).ok()?;
    let envelope = message.envelope;
    match message.body? {
        Body::Content(content) => {
            Some(proto::SubmitExchangeRequest { envelope, content: Some(content) }.encode_to_vec())
        }
        Body::Response(response) => {
            Some(proto::RespondToExchangeRequest { envelope, response: Some(response) }.encode_to_vec())
        }
        Body::Verification(_) | Body::Notice(_) => None,
    }
}

fn field(value: proto::CommittedField) -> Option<Field> {
    Field::ALL.iter().copied().find(|field| on_wire(*field) == value)
}

fn on_wire(field: Field) -> proto::CommittedField {
    match field {
        Field::OperatorName => proto::CommittedField::OperatorName,
        Field::Subject => proto::CommittedField::Subject,
        Field::Request => proto::CommittedField::Request,
        Field::Response => proto::CommittedField::Response,
    }
}
