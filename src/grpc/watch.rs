//! `ExchangeService.WatchExchanges`: every change of the caller's exchanges, from a cursor on.

use std::sync::Arc;

use tokio::time::sleep;

use super::call::Call;
use super::intake::streams::{Outgoing, Sending};
use super::intake::{Intake, store_refusal};
use super::operation::{Facts, Operation, Reading};
use super::page::PageToken;
use super::proto;
use super::status::Refusal;
use super::wire::{call_context, event_of};
use crate::access::Method;
use crate::domain::agency::CreditCode;
use crate::domain::violation::Violations;
use crate::store::EventRecord;

/// Changes read at once.
const PAGE: u32 = 200;

/// `ExchangeService.WatchExchanges`.
pub(super) struct WatchExchanges;

/// A watch as asked for.
pub(super) struct Watch {
    cursor: String,
    /// Place in the sequence of changes that it begins behind.
    after: u64,
}

impl Operation for WatchExchanges {
    const METHOD: Method = Method::WatchExchanges;
    type Request = proto::WatchExchangesRequest;
    type Response = proto::WatchExchangesResponse;
    type Task = Watch;

    fn read(request: Self::Request, reading: &mut Reading) -> Option<Watch> {
        reading.facts.of_context(call_context(&mut reading.violations, request.context.as_ref()));
        Some(Watch { cursor: request.cursor, after: 0 })
    }
}

impl Sending for WatchExchanges {
    async fn prepare(intake: &Intake, call: &Call, task: &mut Watch, _: &mut Facts) -> Result<(), Refusal> {
        let place = cursors(intake, &call.caller()).open(&task.cursor);
        let place = place.ok().map(|place| place.map(<[u8; 8]>::try_from));
        task.after = match place {
            Some(None) => 0,
            Some(Some(Ok(bytes))) => u64::from_be_bytes(bytes),
            Some(Some(Err(_))) | None => {
                let mut violations = Violations::new();
                violations.add(
                    "cursor",
                    "CURSOR",
                    "must come from an earlier watch of this agency",
                    "须使用本机构先前收到的游标",
                );
                return Err(Refusal::Invalid(violations.into_vec()));
            }
        };
        Ok(())
    }

    async fn send(
        intake: &Arc<Intake>,
        call: &Call,
        task: Watch,
        facts: &Facts,
        out: &mut Outgoing<Self::Response>,
    ) -> Result<(), Refusal> {
        let caller = call.caller();
        let cursors = cursors(intake, &caller);
        let mut after = task.after;
        let mut changed = intake.store.follow(&caller);
        // The first sign of life comes at once: the caller has a cursor and knows that it is heard.
        let mut is_alive = false;
        loop {
            changed.mark_unchanged();
            loop {
                // An agency that may no longer watch is told so before the next change or sign of life.
                intake.may_go_on(call, Self::METHOD, facts)?;
                let events = intake.store.events_after(&caller, after, PAGE).await;
                let events = events.map_err(|error| store_refusal(&error))?;
                let is_all = events.len() < PAGE as usize;
                for event in events {
                    after = event.sequence;
                    out.send(item(&cursors, after, Some(&event))).await?;
                    is_alive = true;
                }
                if is_all {
                    break;
                }
            }
            if !is_alive {
                out.send(item(&cursors, after, None)).await?;
            }
            is_alive = tokio::select! {
                // Its sender lives as long as the store.
                _ = changed.changed() => true,
                () = sleep(intake.heartbeat) => false,
                refusal = out.ended() => return Err(refusal),
            };
        }
    }
}

/// Makes and reads an agency's cursors.
fn cursors<'i>(intake: &'i Intake, caller: &CreditCode) -> PageToken<'i> {
    PageToken::new(&intake.pseudonyms, format!("watch\0{caller}"))
}

fn item(cursors: &PageToken<'_>, after: u64, event: Option<&EventRecord>) -> proto::WatchExchangesResponse {
    proto::WatchExchangesResponse {
        event: event.map(event_of),
        cursor: cursors.seal(&after.to_be_bytes()),
        audit: None,
    }
}
