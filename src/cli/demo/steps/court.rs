//! A fee waiver from the centre to the court, its decision as a paper, and judicial relief.

use anyhow::{Context as _, ensure};
use data_encoding::HEXLOWER;

use super::{Answered, DEADLINE, Told, Walk, arm, examples, explain_transfer, index, submit};
use crate::cli::demo::stage::PAPER;
use crate::cli::output::explain;
use crate::client::Paper;
use crate::grpc::json::from_json;
use crate::grpc::proto;
use crate::grpc::proto::response::Kind as Arm;
use crate::setup::purposes;

impl Walk {
    pub(in crate::cli::demo) async fn fee_waiver(&mut self) -> anyhow::Result<Told> {
        let text = std::fs::read_to_string(self.folder.join("fee-waiver.json"))?;
        let mut request: proto::SubmitExchangeRequest = from_json("SubmitExchangeRequest", &text)?;
        request.envelope = Some(self.centre.complete(request.envelope.unwrap_or_default()));
        let submitted = submit(&self.centre, &request).await?;
        let exchange_id = submitted.exchange.clone().unwrap_or_default().exchange_id;
        self.submitted = Some((request, submitted));

        self.take(purposes::FEE_WAIVER, &exchange_id, &["receipt", "supplement request"]).await?;
        let mandate = proto::Attachment {
            sha256: vec![0x5a; 32],
            name: "委托书.pdf".to_owned(),
            media_type: "application/pdf".to_owned(),
            size_bytes: 34_567,
            form_number: String::new(),
        };
        self.supplement(purposes::FEE_WAIVER, &exchange_id, "补交委托代理手续", vec![mandate]).await?;
        self.take(purposes::FEE_WAIVER, &exchange_id, &["decision"]).await?;

        let (centre, court) = (self.centre.clone(), self.court.profile().agency.to_string());
        let expected = ["request", "receipt", "supplement request", "supplement", "decision"];
        let Answered { exchange, log_index } =
            self.decided(&centre, purposes::FEE_WAIVER, &exchange_id, &court, &expected).await?;
        let Some(Arm::FeeWaiverDecision(decision)) = arm(&exchange) else {
            anyhow::bail!("the court decided on something else")
        };
        ensure!(decision.outcome() == proto::FeeWaiverOutcome::Deferred, "the fee is not deferred");
        ensure!(decision.hardship_rereviewed == Some(false), "hardship was reviewed again");
        self.decision_index = Some(log_index);
        self.fee_waiver = Some(exchange);
        Ok(Told {
            title: ("缓交诉讼费：凭法律援助决定", "fee waiver on an aid decision"),
            parties: ("援助中心 ⇄ 人民法院", "centre ⇄ court"),
            result: (
                "送达 → 签收 → 通知补正 → 已补正 → 决定：准予缓交（未重复审查困难状况）".to_owned(),
                "delivered → received → papers asked → handed in → decided: DEFERRED, hardship not re-reviewed"
                    .to_owned(),
            ),
            log_index: Some(log_index),
        })
    }

    pub(in crate::cli::demo) async fn decision_paper(&mut self) -> anyhow::Result<Told> {
        let exchange = self.fee_waiver.as_ref().context("there is no decision")?;
        let last = exchange.thread.last().and_then(|message| message.envelope.as_ref());
        let named = last.and_then(|envelope| envelope.attachments.first()).context("no paper is named")?;
        let sha256: [u8; 32] = named.sha256.as_slice().try_into().context("not a digest")?;
        let here = self.folder.join("received.pdf");
        let downloaded = self.centre.download(&sha256, &here, purposes::FEE_WAIVER, |_, _| ()).await;
        let bytes = downloaded.map_err(explain_transfer)?;
        let (sent, received) = (Paper::read(&self.folder.join(PAPER)).await?, Paper::read(&here).await?);
        ensure!(named.name == PAPER, "another paper is named");
        ensure!(received.sha256 == sent.sha256 && received.sha256 == sha256, "the digests differ");
        let log_index =
            self.index_of("DownloadAttachment", "", self.centre.profile().agency.as_str()).await?;
        let short = HEXLOWER.encode(&sha256[..4]);
        Ok(Told {
            title: ("决定书：法院上传，中心下载", "decision paper, up and down"),
            parties: ("人民法院 → 援助中心", "court → centre"),
            result: (
                format!("{PAPER}，{bytes}字节；两端摘要均与决定所载一致（{short}…）"),
                format!("{bytes} bytes; both ends have the digest that the decision names ({short}…)"),
            ),
            log_index: Some(log_index),
        })
    }

    pub(in crate::cli::demo) async fn same_request_again(&mut self) -> anyhow::Result<Told> {
        let (request, first) = self.submitted.clone().context("nothing was submitted")?;
        let matter_id = request.envelope.clone().unwrap_or_default().matter_id;
        let again = submit(&self.centre, &request).await?;
        ensure!(again == first, "the second answer differs from the first");
        let list = proto::ListExchangesRequest {
            context: Some(self.centre.context(purposes::FEE_WAIVER)),
            matter_id,
            ..Default::default()
        };
        let list = self.centre.exchanges().list_exchanges(self.centre.request(list, DEADLINE)).await;
        let count = list.map_err(|status| explain(&status))?.into_inner().exchanges.len();
        ensure!(count == 1, "there are {count} exchanges");
        Ok(Told {
            title: ("同一请求编号再次提交", "the same request id again"),
            parties: ("援助中心 → 网关", "centre → gateway"),
            result: (
                "答复与首次相同，没有产生第二件".to_owned(),
                "the same answer, no second exchange".to_owned(),
            ),
            log_index: index(again.audit.as_ref()),
        })
    }

    pub(in crate::cli::demo) async fn judicial_relief(&mut self) -> anyhow::Result<Told> {
        let request = examples::judicial_relief(&self.centre)?;
        let submitted = submit(&self.centre, &request).await?.exchange.unwrap_or_default();
        let id = submitted.exchange_id;
        self.take(purposes::JUDICIAL_RELIEF, &id, &["receipt", "decision"]).await?;
        let (centre, court) = (self.centre.clone(), self.court.profile().agency.to_string());
        let expected = ["request", "receipt", "decision"];
        let Answered { exchange, log_index } =
            self.decided(&centre, purposes::JUDICIAL_RELIEF, &id, &court, &expected).await?;
        let Some(Arm::JudicialReliefDecision(decision)) = arm(&exchange) else {
            anyhow::bail!("the court decided on something else")
        };
        ensure!(decision.outcome() == proto::JudicialReliefOutcome::Granted, "relief is not granted");
        let yuan = decision.granted_fen.context("a grant without a sum")? / 100;
        Ok(Told {
            title: ("国家司法救助：执行不能", "judicial relief in enforcement"),
            parties: ("援助中心 ⇄ 人民法院", "centre ⇄ court"),
            result: (
                format!("送达 → 签收 → 决定：给予救助{yuan}元"),
                format!("delivered → received → decided: GRANTED, {yuan} yuan"),
            ),
            log_index: Some(log_index),
        })
    }
}
