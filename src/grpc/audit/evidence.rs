//! `ExportEvidence`: the entries of one exchange, each with its proof under one checkpoint.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::context;
use super::listing::refusal;
use super::proofs::prove;
use super::receipt::reads_any_entry;
use crate::access::Method;
use crate::audit::entry::{Entry, Phase};
use crate::audit::search::{Field, Query};
use crate::audit::verifier::StoredEntry;
use crate::domain::agency::CreditCode;
use crate::domain::exchange::ExchangeId;
use crate::grpc::call::Call;
use crate::grpc::intake::streams::{Outgoing, Sending};
use crate::grpc::intake::{Intake, store_refusal};
use crate::grpc::operation::{Facts, Operation, Reading};
use crate::grpc::proto;
use crate::grpc::proto::export_evidence_response::Piece;
use crate::grpc::status::Refusal;
use crate::grpc::wire::exchange_id;
use crate::store::PageOf;

/// Entries and their bytes read at once.
const PAGE: usize = 500;
const PAGE_BYTES: usize = 1024 * 1024;

pub(super) struct ExportEvidence;

/// An export as asked for.
pub(super) struct Export {
    exchange: ExchangeId,
    /// The party that asks; without one, an auditor does.
    party: Option<CreditCode>,
}

impl Operation for ExportEvidence {
    const METHOD: Method = Method::ExportEvidence;
    type Request = proto::ExportEvidenceRequest;
    type Response = proto::ExportEvidenceResponse;
    type Task = Export;

    fn read(request: Self::Request, reading: &mut Reading) -> Option<Export> {
        context(reading, request.context.as_ref());
        let exchange = exchange_id(&mut reading.violations, "exchange_id", &request.exchange_id)?;
        reading.facts.exchange = Some(exchange);
        Some(Export { exchange, party: None })
    }
}

impl Sending for ExportEvidence {
    async fn prepare(
        intake: &Intake,
        call: &Call,
        task: &mut Export,
        facts: &mut Facts,
    ) -> Result<(), Refusal> {
        let failed = |error| store_refusal(&error);
        if reads_any_entry(intake, call, facts) {
            let found = intake.store.exchange_for_the_gateway(&task.exchange).await.map_err(failed)?;
            return found.map(|_| ()).ok_or(Refusal::NotFound);
        }
        let caller = call.caller();
        let found = intake.store.exchange(&task.exchange, &caller).await.map_err(failed)?;
        let found = found.ok_or(Refusal::NotFound)?;
        facts.kind = Some(found.kind);
        facts.of_found(if found.sender == caller { found.recipient } else { found.sender });
        task.party = Some(caller);
        Ok(())
    }

    async fn send(
        intake: &Arc<Intake>,
        call: &Call,
        task: Export,
        facts: &Facts,
        out: &mut Outgoing<Self::Response>,
    ) -> Result<(), Refusal> {
        let head = intake.log.head();
        // What is before this call; its own beginning would have no end yet.
        let begun = call.open_request().map_or(head.size, |(index, ..)| *index);
        let all = entries_of(intake, task.exchange, head.size.min(begun)).await?;
        // One tree for the whole bundle. Where a cosigned one has all entries, it proves more than a newer one.
        let cosigned = intake.witnesses.borrow().cosigned.clone();
        let last = all.last().map_or(0, |(stored, _)| stored.index);
        let (size, checkpoint) =
            match cosigned.filter(|cosigned| (last + 1..=head.size).contains(&cosigned.size)) {
                Some(cosigned) => (cosigned.size, cosigned.note),
                None => (head.size, head.checkpoint),
            };
        let found = all.len();
        let given: Vec<(StoredEntry, Entry)> = all
            .into_iter()
            .filter(|(_, entry)| task.party.as_ref().is_none_or(|party| concerns(entry, party)))
            .collect();
        let piece = |piece| proto::ExportEvidenceResponse { piece: Some(piece), audit: None };
        out.send(piece(Piece::Head(proto::EvidenceHead {
            checkpoint: checkpoint.to_string(),
            entries: given.len() as u64,
            withheld: (found - given.len()) as u64,
            agencies: agencies_in(intake, given.iter().map(|(_, entry)| entry)),
        })))
        .await?;
        for (stored, _) in given {
            intake.may_go_on(call, Self::METHOD, facts)?;
            let index = stored.index;
            let hashes = prove(intake, index, size).await?;
            let hashes = hashes.iter().map(|hash| hash.as_bytes().to_vec()).collect();
            out.send(piece(Piece::Entry(proto::EvidenceEntry { index, entry: stored.entry, hashes })))
                .await?;
        }
        Ok(())
    }
}

/// Whether an entry of the exchange is one that this party may have: of its own calls, of what was delivered to it, or
/// of what the gateway did by itself. An entry is proven whole, so that it is given whole or not at all; and an entry of
/// the other side's call names who worked on it there.
fn concerns(entry: &Entry, party: &CreditCode) -> bool {
    let is_party = |code: &Option<String>| code.as_deref() == Some(party.as_str());
    // What no method of the contract is, no agency has called.
    let by_the_gateway = Method::at_path(&format!("/{}/{}", entry.service, entry.method)).is_none();
    is_party(&entry.caller) || by_the_gateway && (entry.phase == Phase::Event || is_party(&entry.counterpart))
}

/// The entries below `end` that name an exchange, and those of the calls that these end: the call that opened it could
/// not name it. In log order.
async fn entries_of(
    intake: &Intake,
    exchange: ExchangeId,
    end: u64,
) -> Result<Vec<(StoredEntry, Entry)>, Refusal> {
    let mut query = Query::default();
    query.narrow(Field::Exchange, exchange.to_string());
    let mut found = BTreeMap::new();
    let mut within = Some(0..end);
    while let Some(range) = within {
        let of = PageOf { within: range, newest_first: false, entries: PAGE, bytes: PAGE_BYTES };
        let page = intake.index.page(&query, of).await.map_err(|error| refusal(&error))?;
        take(&mut found, page.entries);
        within = page.rest;
    }
    let begun: Vec<u64> = found
        .values()
        .filter_map(|(_, entry): &(StoredEntry, Entry)| entry.request_index)
        .filter(|index| !found.contains_key(index))
        .collect();
    for indices in begun.chunks(PAGE) {
        let stored = intake.store.entries_at(indices, false).await;
        take(&mut found, stored.map_err(|error| store_refusal(&error))?);
    }
    Ok(found.into_values().collect())
}

fn take(found: &mut BTreeMap<u64, (StoredEntry, Entry)>, page: Vec<StoredEntry>) {
    for stored in page {
        // What was pruned has no bytes to prove.
        if let Ok(entry) = Entry::from_json(&stored.entry) {
            found.insert(stored.index, (stored, entry));
        }
    }
}

/// The names of the agencies that entries name.
fn agencies_in<'e>(intake: &Intake, entries: impl Iterator<Item = &'e Entry>) -> Vec<proto::EvidenceAgency> {
    let directory = intake.directory.load();
    let codes = entries.flat_map(|entry| [entry.caller.as_deref(), entry.counterpart.as_deref()]).flatten();
    let names: BTreeMap<&str, &str> = codes
        .filter_map(|code| {
            let agency = directory.agency(&CreditCode::parse(code).ok()?)?;
            Some((code, agency.name.as_str()))
        })
        .collect();
    let named =
        |(code, name): (&str, &str)| proto::EvidenceAgency { code: code.to_owned(), name: name.to_owned() };
    names.into_iter().map(named).collect()
}
