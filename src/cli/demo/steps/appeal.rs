//! An appeal referral: the clock of the law that runs in it, and its outcome.

use anyhow::{Context as _, ensure};
use jiff::ToSpan as _;

use super::{Answered, DEADLINE, Told, Walk, arm, clock, day, examples, submit};
use crate::cli::exchange::get;
use crate::cli::output::explain;
use crate::grpc::generated::google::r#type::Date as Day;
use crate::grpc::proto;
use crate::grpc::proto::response::Kind as Arm;
use crate::grpc::wire::{date, shanghai_day};
use crate::setup::purposes;

impl Walk {
    pub(in crate::cli::demo) async fn clock_of_the_law(&mut self) -> anyhow::Result<Told> {
        let request = examples::appeal_referral(&self.centre)?;
        let before = shanghai_day(self.centre.now());
        let submitted = submit(&self.centre, &request).await?;
        let id = submitted.exchange.unwrap_or_default().exchange_id;
        self.take(purposes::APPEAL_REFERRAL, &id, &["receipt", "supplement request"]).await?;
        let exchange = get(&self.centre, purposes::APPEAL_REFERRAL, &id).await?;
        let review = clock(&exchange, "CIVIL_SUPERVISION_REVIEW")?;
        ensure!(review.articles == ["民事诉讼法 220"], "the clock has another article");
        ensure!(review.stop_time.is_none() && review.overdue_from.is_none(), "the clock does not run");
        // Three months; where they end on a holiday, the next working day.
        let earliest = before.saturating_add(3.months());
        let latest = earliest.saturating_add(15.days());
        let due = review.due_on.as_ref().context("the clock has no last day")?;
        let order = |at: &Day| (at.year, at.month, at.day);
        ensure!(
            order(&date(earliest)) <= order(due) && order(due) <= order(&date(latest)),
            "the clock ends on {}",
            day(Some(due))
        );
        let until = day(Some(due));
        ensure!(self.overdue().await? == 0, "something is overdue");
        self.referral = Some(id);
        Ok(Told {
            title: ("法定期限：办件上的时钟", "clock of the law on an exchange"),
            parties: ("援助中心 → 人民检察院", "centre → procuratorate"),
            result: (
                format!("移送；审查三个月（民事诉讼法第220条），{until}到期，计时中；无逾期办件"),
                format!(
                    "review within 3 months (Civil Procedure Law 220), due {until}, running; nothing is overdue"
                ),
            ),
            log_index: submitted.audit.map(|audit| audit.log_index),
        })
    }

    pub(in crate::cli::demo) async fn appeal_referral(&mut self) -> anyhow::Result<Told> {
        let id = self.referral.take().context("nothing was referred")?;
        let purpose = purposes::APPEAL_REFERRAL;
        self.supplement(purpose, &id, "补交委托代理手续", Vec::new()).await?;
        self.take(purpose, &id, &["acceptance", "outcome"]).await?;
        let (centre, procuratorate) = (self.centre.clone(), crate::setup::codes::PROCURATORATE);
        let expected = ["request", "receipt", "supplement request", "supplement", "acceptance", "outcome"];
        let Answered { exchange, log_index } =
            self.decided(&centre, purpose, &id, procuratorate, &expected).await?;
        let Some(Arm::AppealOutcome(outcome)) = arm(&exchange) else { anyhow::bail!("another answer") };
        ensure!(outcome.result() == proto::AppealResult::Protest, "the outcome is no protest");
        let review = clock(&exchange, "CIVIL_SUPERVISION_REVIEW")?;
        ensure!(
            review.stop_time.is_some() && review.overdue_from.is_none(),
            "the clock did not stop in time"
        );
        Ok(Told {
            title: ("申诉移送检察院", "appeal referral"),
            parties: ("援助中心 ⇄ 人民检察院", "centre ⇄ procuratorate"),
            result: (
                "签收 → 通知补正 → 已补正 → 受理 → 结果：提出抗诉；期限内办结".to_owned(),
                "received → papers asked → handed in → accepted → outcome: PROTEST, in time".to_owned(),
            ),
            log_index: Some(log_index),
        })
    }

    /// How many of the centre's exchanges are overdue.
    async fn overdue(&self) -> anyhow::Result<usize> {
        let request = proto::ListExchangesRequest {
            context: Some(self.centre.context(purposes::APPEAL_REFERRAL)),
            overdue: true,
            ..Default::default()
        };
        let list = self.centre.exchanges().list_exchanges(self.centre.request(request, DEADLINE)).await;
        Ok(list.map_err(|status| explain(&status))?.into_inner().exchanges.len())
    }
}
