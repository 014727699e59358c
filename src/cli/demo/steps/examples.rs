//! The examples of `docs/kinds`, as an agency sends them today.

use anyhow::Context as _;

use crate::client::AgencyClient;
use crate::grpc::json::from_json;
use crate::grpc::proto;
use crate::grpc::proto::content::Kind;
use crate::grpc::wire::{date, shanghai_day, timestamp};

pub(super) fn judicial_relief(from: &AgencyClient) -> anyhow::Result<proto::SubmitExchangeRequest> {
    example(include_str!("../../../../docs/kinds/judicial-relief.md"), from)
}

pub(super) fn appeal_referral(from: &AgencyClient) -> anyhow::Result<proto::SubmitExchangeRequest> {
    example(include_str!("../../../../docs/kinds/appeal-referral.md"), from)
}

pub(super) fn counsel_notice(from: &AgencyClient) -> anyhow::Result<proto::SubmitExchangeRequest> {
    example(include_str!("../../../../docs/kinds/counsel-notice.md"), from)
}

pub(super) fn direct_assignment(from: &AgencyClient) -> anyhow::Result<proto::SubmitExchangeRequest> {
    example(include_str!("../../../../docs/kinds/direct-assignment-report.md"), from)
}

pub(super) fn cooperation(from: &AgencyClient) -> anyhow::Result<proto::SubmitExchangeRequest> {
    example(include_str!("../../../../docs/kinds/cooperation-request.md"), from)
}

/// The first example of a kind's page; what happened just now is dated so.
fn example(page: &str, from: &AgencyClient) -> anyhow::Result<proto::SubmitExchangeRequest> {
    let example = page.split_once("```json\n").and_then(|(_, rest)| rest.split_once("```"));
    let (text, _) = example.context("the page has no example")?;
    let mut request: proto::SubmitExchangeRequest = from_json("SubmitExchangeRequest", text)?;
    request.envelope = Some(from.complete(request.envelope.unwrap_or_default()));
    let now = from.now();
    match request.content.as_mut().and_then(|content| content.kind.as_mut()) {
        Some(Kind::JudicialRelief(relief)) => relief.filed_at = Some(timestamp(now)),
        Some(Kind::AppealReferral(referral)) => referral.filed_at = Some(timestamp(now)),
        Some(Kind::CounselNotice(notice)) => notice.found_at = Some(timestamp(now)),
        Some(Kind::DirectAssignmentReport(report)) => report.assigned_on = Some(date(shanghai_day(now))),
        Some(Kind::CooperationRequest(_) | Kind::FeeWaiver(_)) | None => {}
    }
    Ok(request)
}
