//! From the domain to the wire.

use super::{date, timestamp};
use crate::domain::clocks::SourceMark;
use crate::domain::exchange::{Change, ExchangeState, Kind};
use crate::domain::violation::Remark;
use crate::grpc::proto;
use crate::store::{ClockRecord, EventRecord, ExchangeRecord};

/// An exchange without its thread.
pub(crate) fn exchange_of(record: &ExchangeRecord) -> proto::Exchange {
    proto::Exchange {
        exchange_id: record.exchange_id.to_string(),
        kind: kind_of(record.kind).into(),
        state: state_on_wire(record.state).into(),
        sender: record.sender.to_string(),
        recipient: record.recipient.to_string(),
        matter_id: record.matter_id.clone(),
        region: record.region.clone(),
        create_time: Some(timestamp(record.created)),
        update_time: Some(timestamp(record.updated)),
        thread: Vec::new(),
        clocks: Vec::new(),
        erase_time: record.erased.as_ref().map(|(at, _)| timestamp(*at)),
        erased_by: record.erased.as_ref().map(|(_, by)| by.clone()).unwrap_or_default(),
    }
}

/// A clock that runs, or ran, in an exchange.
pub(crate) fn clock_of(record: &ClockRecord) -> proto::Clock {
    let source = match record.source {
        SourceMark::PrimaryText => proto::ClockSource::PrimaryText,
        SourceMark::Secondary => proto::ClockSource::Secondary,
        SourceMark::Unverified => proto::ClockSource::Unverified,
    };
    proto::Clock {
        clock_id: record.clock.clone(),
        articles: record.articles.clone(),
        source: source.into(),
        start_time: Some(timestamp(record.started)),
        due_time: Some(timestamp(record.due)),
        due_on: record.due_on.map(date),
        overdue_from: record.overdue_since.map(timestamp),
        stop_time: record.stopped.map(timestamp),
        estimate: record.is_estimate,
    }
}

/// A change of an exchange.
pub(crate) fn event_of(record: &EventRecord) -> proto::ExchangeEvent {
    let change = match record.change {
        Change::Opened => proto::ExchangeChange::Opened,
        Change::MessageAdded => proto::ExchangeChange::MessageAdded,
        Change::Overdue => proto::ExchangeChange::Overdue,
        Change::Delivered => proto::ExchangeChange::Delivered,
        Change::Undeliverable => proto::ExchangeChange::Undeliverable,
    };
    proto::ExchangeEvent {
        exchange_id: record.exchange_id.to_string(),
        change: change.into(),
        state: state_on_wire(record.state).into(),
        message_sequence: record.message,
        change_time: Some(timestamp(record.changed)),
    }
}

/// A kind on the wire.
pub(crate) fn kind_of(kind: Kind) -> proto::Kind {
    match kind {
        Kind::LowIncomeQuery => proto::Kind::LowIncomeQuery,
        Kind::FeeWaiver => proto::Kind::FeeWaiver,
        Kind::PovertyHouseholdQuery => proto::Kind::PovertyHouseholdQuery,
        Kind::JudicialRelief => proto::Kind::JudicialRelief,
        Kind::AppealReferral => proto::Kind::AppealReferral,
        Kind::CounselNotice => proto::Kind::CounselNotice,
        Kind::DirectAssignmentReport => proto::Kind::DirectAssignmentReport,
        Kind::CooperationRequest => proto::Kind::CooperationRequest,
    }
}

/// A state from the wire; `None` for unspecified and unknown.
pub(crate) fn state_of(value: i32) -> Option<ExchangeState> {
    ExchangeState::ALL.iter().copied().find(|state| state_on_wire(*state) as i32 == value)
}

fn state_on_wire(state: ExchangeState) -> proto::ExchangeState {
    match state {
        ExchangeState::Submitted => proto::ExchangeState::Submitted,
        ExchangeState::Delivered => proto::ExchangeState::Delivered,
        ExchangeState::Received => proto::ExchangeState::Received,
        ExchangeState::SupplementRequested => proto::ExchangeState::SupplementRequested,
        ExchangeState::Supplemented => proto::ExchangeState::Supplemented,
        ExchangeState::Decided => proto::ExchangeState::Decided,
        ExchangeState::Closed => proto::ExchangeState::Closed,
        ExchangeState::Withdrawn => proto::ExchangeState::Withdrawn,
        ExchangeState::Undeliverable => proto::ExchangeState::Undeliverable,
        ExchangeState::DeemedWithdrawn => proto::ExchangeState::DeemedWithdrawn,
    }
}

/// A remark on the wire; `message` is the path of the message that it is about.
pub(super) fn warning(message: &str, remark: &Remark) -> proto::Warning {
    proto::Warning {
        field: format!("{message}.{}", remark.field),
        rule: remark.rule.to_owned(),
        description: remark.description.clone(),
        description_zh: remark.description_zh.clone(),
        article: remark.article.to_string(),
    }
}
