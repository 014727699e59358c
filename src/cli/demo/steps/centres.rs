//! What comes to a centre: a notice, a report, and what one centre asks of another.

use anyhow::ensure;

use super::{Answered, Told, Walk, arm, clock, day, examples, submit};
use crate::grpc::proto;
use crate::grpc::proto::response::Kind as Arm;
use crate::setup::{codes, purposes};

impl Walk {
    pub(in crate::cli::demo) async fn counsel_notice(&mut self) -> anyhow::Result<Told> {
        let request = examples::counsel_notice(&self.court)?;
        let Answered { exchange, log_index } = self.put_to_centre(&request, "assignment").await?;
        let Some(Arm::CounselAssignment(assigned)) = arm(&exchange) else { anyhow::bail!("another answer") };
        ensure!(!assigned.firm.is_empty() && assigned.assigned_on.is_some(), "nobody was assigned");
        let limit = clock(&exchange, "COUNSEL_AFTER_NOTICE")?;
        ensure!(limit.articles == ["法律援助法 36"], "the clock has another article");
        ensure!(limit.stop_time.is_some() && limit.overdue_from.is_none(), "the centre was late");
        let (firm, until) = (&assigned.firm, day(limit.due_on.as_ref()));
        Ok(Told {
            title: ("通知辩护：被告人没有辩护人", "counsel notice to the centre"),
            parties: ("人民法院 → 援助中心", "court → centre"),
            result: (
                format!("签收 → 指派：{firm}；期限三日（法律援助法第36条），至{until}，按时"),
                format!("received → a lawyer assigned; 3 days (Legal Aid Law 36), due {until}, in time"),
            ),
            log_index: Some(log_index),
        })
    }

    pub(in crate::cli::demo) async fn direct_assignment_report(&mut self) -> anyhow::Result<Told> {
        let request = examples::direct_assignment(&self.court)?;
        let Answered { exchange, log_index } = self.put_to_centre(&request, "acknowledgement").await?;
        let Some(Arm::DirectAssignmentAcknowledgement(answer)) = arm(&exchange) else {
            anyhow::bail!("another answer")
        };
        ensure!(answer.outcome() == proto::DirectAssignmentOutcome::Registered, "it was not registered");
        let number = &answer.registration_number;
        Ok(Told {
            title: ("法院直接指派的报告", "direct-assignment report"),
            parties: ("人民法院 → 援助中心", "court → centre"),
            result: (
                format!("签收 → 回复：已登记，登记号 {number}"),
                format!("received → acknowledged: REGISTERED as {number}"),
            ),
            log_index: Some(log_index),
        })
    }

    pub(in crate::cli::demo) async fn cooperation_request(&mut self) -> anyhow::Result<Told> {
        let request = examples::cooperation(&self.centre)?;
        let id = submit(&self.centre, &request).await?.exchange.unwrap_or_default().exchange_id;
        self.take(purposes::COOPERATION, &id, &["receipt", "result"]).await?;
        let centre = self.centre.clone();
        let expected = ["request", "receipt", "result"];
        let Answered { exchange, log_index } =
            self.decided(&centre, purposes::COOPERATION, &id, codes::NEIGHBOUR, &expected).await?;
        let Some(Arm::CooperationResult(result)) = arm(&exchange) else { anyhow::bail!("another answer") };
        ensure!(result.outcome() == proto::CooperationOutcome::Done, "it was not done");
        Ok(Told {
            title: ("异地协作：代为送达", "cooperation between centres"),
            parties: ("援助中心 ⇄ 邻区中心", "centre ⇄ neighbour"),
            result: (
                "送达 → 签收 → 结果：已办理".to_owned(),
                "delivered → received → result: DONE".to_owned(),
            ),
            log_index: Some(log_index),
        })
    }

    /// Sends something from the court to the centre, whose clerk is at the desk until it is answered.
    async fn put_to_centre(
        &mut self,
        request: &proto::SubmitExchangeRequest,
        answer: &str,
    ) -> anyhow::Result<Answered> {
        self.district()?.employ("centre").await?;
        let answered = self.put_and_wait(request, answer).await;
        self.district()?.send_home("centre").await;
        answered
    }

    async fn put_and_wait(
        &mut self,
        request: &proto::SubmitExchangeRequest,
        answer: &str,
    ) -> anyhow::Result<Answered> {
        let court = self.court.clone();
        let id = submit(&court, request).await?.exchange.unwrap_or_default().exchange_id;
        let expected = ["request", "receipt", answer];
        self.decided(&court, purposes::COUNSEL_ASSIGNMENT, &id, codes::CENTRE, &expected).await
    }
}
