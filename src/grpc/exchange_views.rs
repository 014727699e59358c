//! Reading exchanges.

use std::collections::BTreeMap;

use prost::Message;

use super::call::Call;
use super::intake::{Intake, store_refusal};
use super::operation::{Facts, Lookup, Operation, Reading};
use super::page::{PageToken, page_size};
use super::proto;
use super::status::Refusal;
use super::wire::{call_context, clock_of, exchange_id, exchange_of, state_of};
use crate::access::Method;
use crate::domain::exchange::{ExchangeId, ExchangeState};
use crate::store::ExchangeFilter;

/// `ExchangeService.GetExchange`.
pub(super) struct GetExchange;

impl Operation for GetExchange {
    const METHOD: Method = Method::GetExchange;
    type Request = proto::GetExchangeRequest;
    type Response = proto::GetExchangeResponse;
    type Task = ExchangeId;

    fn read(request: Self::Request, reading: &mut Reading) -> Option<ExchangeId> {
        reading.facts.of_context(call_context(&mut reading.violations, request.context.as_ref()));
        let id = exchange_id(&mut reading.violations, "exchange_id", &request.exchange_id)?;
        reading.facts.exchange = Some(id);
        Some(id)
    }
}

impl Lookup for GetExchange {
    async fn look_up(
        intake: &Intake,
        call: &Call,
        id: ExchangeId,
        facts: &mut Facts,
    ) -> Result<Self::Response, Refusal> {
        let found = intake.store.exchange(&id, &call.caller()).await;
        let record = found.map_err(|error| store_refusal(&error))?.ok_or(Refusal::NotFound)?;
        facts.kind = Some(record.kind);
        facts.of_found(if record.sender == call.caller() { record.recipient } else { record.sender });
        let thread = if record.erased.is_some() { Vec::new() } else { thread_of(intake, &id).await? };
        let clocks = clocks_of(intake, &[id]).await?.remove(&id).unwrap_or_default();
        let exchange = proto::Exchange { thread, clocks, ..exchange_of(&record) };
        Ok(proto::GetExchangeResponse { exchange: Some(exchange), audit: None })
    }
}

/// The messages of an exchange, the opening one first.
pub(super) async fn thread_of(
    intake: &Intake,
    id: &ExchangeId,
) -> Result<Vec<proto::ExchangeMessage>, Refusal> {
    let messages = intake.store.messages(id).await.map_err(|error| store_refusal(&error))?;
    let decoded = messages.iter().map(|stored| proto::ExchangeMessage::decode(stored.message.as_slice()));
    decoded.collect::<Result<_, _>>().map_err(|_| Refusal::Internal)
}

/// The clocks of exchanges, as they are shown.
async fn clocks_of(
    intake: &Intake,
    ids: &[ExchangeId],
) -> Result<BTreeMap<ExchangeId, Vec<proto::Clock>>, Refusal> {
    let found = intake.store.clocks_of(ids).await.map_err(|error| store_refusal(&error))?;
    Ok(found.into_iter().map(|(id, clocks)| (id, clocks.iter().map(clock_of).collect())).collect())
}

/// `ExchangeService.ListExchanges`.
pub(super) struct ListExchanges;

/// A list as asked for.
pub(super) struct List {
    state: Option<ExchangeState>,
    matter_id: Option<String>,
    overdue: bool,
    page_size: u32,
    token: String,
}

impl List {
    /// What a page token is bound to.
    fn filter_key(&self, caller: &str) -> String {
        let state = self.state.map_or("", ExchangeState::as_str);
        let (overdue, matter) = (u8::from(self.overdue), self.matter_id.as_deref().unwrap_or_default());
        format!("exchanges\0{caller}\0{state}\0{overdue}\0{matter}")
    }
}

impl Operation for ListExchanges {
    const METHOD: Method = Method::ListExchanges;
    type Request = proto::ListExchangesRequest;
    type Response = proto::ListExchangesResponse;
    type Task = List;

    fn read(request: Self::Request, reading: &mut Reading) -> Option<List> {
        let violations = &mut reading.violations;
        reading.facts.of_context(call_context(violations, request.context.as_ref()));
        let state = state_of(request.state);
        if request.state != 0 && state.is_none() {
            violations.add("state", "UNKNOWN_VALUE", "not a value that this version knows", "无法识别的取值");
        }
        let page_size = page_size(violations, request.page_size, 50, 200)?;
        let matter_id = (!request.matter_id.is_empty()).then_some(request.matter_id);
        Some(List { state, matter_id, overdue: request.overdue, page_size, token: request.page_token })
    }
}

impl Lookup for ListExchanges {
    async fn look_up(
        intake: &Intake,
        call: &Call,
        list: List,
        _: &mut Facts,
    ) -> Result<Self::Response, Refusal> {
        let token = PageToken::new(&intake.pseudonyms, list.filter_key(call.caller().as_str()));
        let before = match token.open(&list.token)? {
            None => None,
            Some(bytes) => Some(ExchangeId::from_slice(&bytes).ok_or(Refusal::Internal)?),
        };
        let List { state, matter_id, overdue, .. } = list;
        let filter = ExchangeFilter { state, matter_id, overdue, before };
        let mut found = intake
            .store
            .exchanges(&call.caller(), &filter, list.page_size + 1)
            .await
            .map_err(|error| store_refusal(&error))?;
        let more = found.len() > list.page_size as usize;
        found.truncate(list.page_size as usize);
        let next_page_token = found
            .last()
            .filter(|_| more)
            .map(|last| token.seal(last.exchange_id.as_bytes()))
            .unwrap_or_default();
        let ids: Vec<_> = found.iter().map(|record| record.exchange_id).collect();
        let mut clocks = clocks_of(intake, &ids).await?;
        let exchanges = found.iter().map(|record| proto::Exchange {
            clocks: clocks.remove(&record.exchange_id).unwrap_or_default(),
            ..exchange_of(record)
        });
        Ok(proto::ListExchangesResponse { exchanges: exchanges.collect(), next_page_token, audit: None })
    }
}
