//! The steps: each checks what it claims, and says what a clerk should see.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use prost::Message as _;
use tonic_types::StatusExt as _;

use crate::audit::entry::Entry;
use crate::audit::note::VerifyingKey;
use crate::audit::verifier::Finding;
use crate::cli::audit::{ExportWriter, fetch, prove, verify_path};
use crate::cli::exchange::{acknowledge, get, what};
use crate::cli::output::explain;
use crate::client::AgencyClient;
use crate::grpc::json::from_json;
use crate::grpc::proto;
use crate::grpc::proto::VerificationResult;
use crate::setup::{NOT_ON_THE_REGISTER, ON_THE_REGISTER, purposes};
use crate::simulator::district::District;

const DEADLINE: Duration = Duration::from_secs(10);

/// How long the court may take in all.
const COURT_PATIENCE: Duration = Duration::from_secs(10);

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
            title: ("未达到", "missed"), parties: ("", ""), result: (text.clone(), text), log_index: None
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

/// The way through the steps.
pub(super) struct Walk {
    /// `None` once it was stopped.
    district: Option<District>,
    folder: PathBuf,
    key: VerifyingKey,
    centre: AgencyClient,
    court: AgencyClient,
    auditor: AgencyClient,
    submitted: Option<(proto::SubmitExchangeRequest, proto::SubmitExchangeResponse)>,
    decision_index: Option<u64>,
    checkpoint: Option<String>,
    audit: AuditResult,
}

impl Walk {
    pub(super) fn new(district: District) -> anyhow::Result<Self> {
        let (centre, court, auditor) =
            (district.client("centre")?, district.client("court")?, district.client("auditor")?);
        let folder = district.folder().to_owned();
        let key = district.gateway.log_key().clone();
        std::fs::write(folder.join("log.pub"), format!("{key}\n"))?;
        Ok(Self {
            district: Some(district),
            folder,
            key,
            centre,
            court,
            auditor,
            submitted: None,
            decision_index: None,
            checkpoint: None,
            audit: AuditResult::default(),
        })
    }

    pub(super) async fn household_on_register(&mut self) -> anyhow::Result<Told> {
        let answer = self.verify(ON_THE_REGISTER).await?;
        expect(&answer, VerificationResult::Match)?;
        let until = answer.answer.as_ref().and_then(|answer| answer.valid_until);
        let until =
            until.map(|day| format!("{:04}-{:02}-{:02}", day.year, day.month, day.day)).unwrap_or_default();
        Ok(Told {
            title: ("核查：在册家庭", "verify: household on the register"),
            parties: ("法律援助中心 → 民政系统", "centre → civil-affairs registry"),
            result: (
                format!("MATCH：在册，低保在领；收入在标准线内；答复有效至 {until}"),
                format!(
                    "MATCH: on the register, allowance active; income within the line; valid until {until}"
                ),
            ),
            log_index: index(answer.audit.as_ref()),
        })
    }

    pub(super) async fn household_not_on_register(&mut self) -> anyhow::Result<Told> {
        let answer = self.verify(NOT_ON_THE_REGISTER).await?;
        expect(&answer, VerificationResult::NoMatch)?;
        Ok(Told {
            title: ("核查：不在册家庭", "verify: household not on the register"),
            parties: ("法律援助中心 → 民政系统", "centre → civil-affairs registry"),
            result: (
                "NO_MATCH：不在册；这不是拒绝，可改用个人诚信承诺".to_owned(),
                "NO_MATCH: not on it; no refusal: an undertaking may take its place".to_owned(),
            ),
            log_index: index(answer.audit.as_ref()),
        })
    }

    pub(super) async fn registry_down(&mut self) -> anyhow::Result<Told> {
        let district = self.district.as_mut().context("the district was stopped")?;
        district.stop_registry().await;
        let answer = self.verify(ON_THE_REGISTER).await;
        self.district.as_mut().context("the district was stopped")?.start_registry().await?;
        let answer = answer?;
        expect(&answer, VerificationResult::Unavailable)?;
        let steps = answer.answer.as_ref().map(|answer| answer.next_steps.as_slice()).unwrap_or_default();
        ensure!(!steps.is_empty(), "UNAVAILABLE came without what the centre may do next");
        let join = |text: fn(&proto::NextStep) -> &String, between: &str| {
            let list: Vec<_> =
                steps.iter().map(|step| format!("{} ({})", text(step), step.article)).collect();
            list.join(between)
        };
        Ok(Told {
            title: ("核查：民政系统停机", "verify: the registry is down"),
            parties: ("法律援助中心 → （无应答）", "centre → (no answer)"),
            result: (
                format!("UNAVAILABLE；中心可以：{}", join(|step| &step.text_zh, "；")),
                format!("UNAVAILABLE; the centre may: {}", join(|step| &step.text, "; or ")),
            ),
            log_index: index(answer.audit.as_ref()),
        })
    }

    pub(super) async fn fee_waiver(&mut self) -> anyhow::Result<Told> {
        let text = std::fs::read_to_string(self.folder.join("fee-waiver.json"))?;
        let mut request: proto::SubmitExchangeRequest = from_json("SubmitExchangeRequest", &text)?;
        request.envelope = Some(self.centre.complete(request.envelope.unwrap_or_default()));
        let call = self.centre.request(request.clone(), DEADLINE);
        let submitted = self.centre.exchanges().submit_exchange(call).await;
        let submitted = submitted.map_err(|status| explain(&status))?.into_inner();
        let exchange_id = submitted.exchange.clone().unwrap_or_default().exchange_id;
        self.submitted = Some((request, submitted));

        self.wait_for(&["receipt", "supplement request"]).await?;
        self.supplement(&exchange_id).await?;
        self.wait_for(&["decision"]).await?;

        let exchange = get(&self.centre, purposes::FEE_WAIVER, &exchange_id).await?;
        ensure!(
            exchange.state == proto::ExchangeState::Decided as i32,
            "the exchange is not DECIDED at its end"
        );
        let thread: Vec<_> = exchange.thread.iter().map(what).collect();
        let expected = ["request", "receipt", "supplement request", "supplement", "decision"];
        ensure!(thread == expected, "the thread is {thread:?}");
        let log_index = self.index_of_decision(&exchange_id).await?;
        self.decision_index = Some(log_index);
        Ok(Told {
            title: ("缓交诉讼费：凭法律援助决定", "fee waiver, on a legal-aid decision"),
            parties: ("法律援助中心 ⇄ 人民法院", "centre ⇄ court"),
            result: (
                "送达 → 签收 → 通知补正 → 已补正 → 决定：准予缓交（未重复审查困难状况）".to_owned(),
                "delivered → received → papers asked → handed in → decided: DEFERRED, hardship not re-reviewed"
                    .to_owned(),
            ),
            log_index: Some(log_index),
        })
    }

    pub(super) async fn same_request_again(&mut self) -> anyhow::Result<Told> {
        let (request, first) = self.submitted.clone().context("nothing was submitted")?;
        let again = self.centre.exchanges().submit_exchange(self.centre.request(request, DEADLINE)).await;
        let again = again.map_err(|status| explain(&status))?.into_inner();
        ensure!(again == first, "the second answer differs from the first");
        let list = proto::ListExchangesRequest {
            context: Some(self.centre.context(purposes::FEE_WAIVER)),
            ..Default::default()
        };
        let list = self.centre.exchanges().list_exchanges(self.centre.request(list, DEADLINE)).await;
        let count = list.map_err(|status| explain(&status))?.into_inner().exchanges.len();
        ensure!(count == 1, "there are {count} exchanges");
        Ok(Told {
            title: ("同一请求编号再次提交", "the same request id again"),
            parties: ("法律援助中心 → 网关", "centre → gateway"),
            result: (
                "答复与首次相同，没有产生第二件".to_owned(),
                "the same answer, no second exchange".to_owned(),
            ),
            log_index: index(again.audit.as_ref()),
        })
    }

    pub(super) async fn court_queries_registry(&mut self) -> anyhow::Result<Told> {
        let request = self.question(&self.court, ON_THE_REGISTER)?;
        let call = self.court.request(request, DEADLINE);
        let Err(status) = self.court.verification().verify_low_income(call).await else {
            bail!("the court was answered")
        };
        ensure!(
            status.code() == tonic::Code::PermissionDenied,
            "refused for another reason: {}",
            status.message()
        );
        let details = status.get_error_details();
        let info = details.error_info().context("the refusal has no reason")?;
        let log_index: u64 = info.metadata.get("log_index").context("the refusal names no entry")?.parse()?;
        let entry = self.entry(log_index).await?;
        ensure!(entry.code.as_deref() == Some("PERMISSION_DENIED"), "the entry says otherwise");
        ensure!(
            entry.caller.as_deref() == Some(self.court.profile().agency.as_str()),
            "the entry names another"
        );
        let reason = info.reason.clone();
        Ok(Told {
            title: ("法院查询民政系统", "a court asks the registry"),
            parties: ("人民法院 ✗ 民政系统", "court ✗ registry"),
            result: (format!("拒绝（{reason}），并已记入日志"), format!("denied ({reason}), and in the log")),
            log_index: Some(log_index),
        })
    }

    pub(super) async fn no_certificate(&mut self) -> anyhow::Result<Told> {
        let profile = self.centre.profile();
        let dialler =
            crate::identity::dialler::Dialler::new(&profile.credentials()?, crate::clock::Clock::system());
        let said = match dialler.probe_without_certificate(&profile.endpoint()).await {
            Ok(_) => bail!("a client without a certificate was let in"),
            Err(error) => error.to_string(),
        };
        Ok(Told {
            title: ("没有证书的客户端", "a client without a certificate"),
            parties: ("陌生人 ✗ 网关", "stranger ✗ gateway"),
            result: (format!("握手被拒：{said}"), format!("refused at the handshake: {said}")),
            log_index: None,
        })
    }

    pub(super) async fn audit_verified_from_outside(&mut self) -> anyhow::Result<Told> {
        let file = self.folder.join("audit-export.jsonl");
        let mut writer = ExportWriter::create(&file)?;
        fetch(&self.auditor, purposes::AUDIT_INSPECTION, &mut writer).await?;
        writer.finish()?;
        let report = verify_path(&file, &self.key, &[]).await?;
        ensure!(report.is_sound(), "{} finding(s): {}", report.findings.len(), report.findings[0]);
        let decision = self.decision_index.context("there is no decision to prove")?;
        let request = proto::GetEntryRequest {
            context: Some(self.auditor.context(purposes::AUDIT_INSPECTION)),
            index: decision,
        };
        let stored = self.auditor.audit().get_entry(self.auditor.request(request, DEADLINE)).await;
        let stored = stored.map_err(|status| explain(&status))?.into_inner().entry.context("no entry")?;
        let size = prove(&self.auditor, purposes::AUDIT_INSPECTION, &stored, &self.key).await?;
        self.audit.size = report.size;
        self.audit.root = report.root.to_base64();
        self.audit.verified = true;
        self.checkpoint = self.district.as_ref().map(|district| district.gateway.checkpoint());
        Ok(Told {
            title: ("从外部核验审计日志", "audit log verified from outside"),
            parties: ("审计机关 → 网关", "auditor → gateway"),
            result: (
                format!("{} 条逐条重新计算，与签名一致；法院决定在 {size} 条的日志中得到证明", report.size),
                format!(
                    "{} entries hashed again, as signed; the decision is proven in the log of {size}",
                    report.size
                ),
            ),
            log_index: Some(decision),
        })
    }

    pub(super) async fn tampering_detected(&mut self) -> anyhow::Result<Told> {
        // Stopped, so that the database file is complete in itself.
        self.district.take().context("the district was stopped")?.stop().await;
        let earlier: Vec<String> = self.checkpoint.iter().cloned().collect();
        let original = self.folder.join("gateway.db");
        let sound = verify_path(&original, &self.key, &earlier).await?;
        ensure!(sound.is_sound(), "the untouched database is not sound: {}", sound.findings[0]);
        let changed = self.decision_index.context("there is no decision to change")?;
        let tampered = self.folder.join("tampered.db");
        change_one_byte(&original, &tampered, changed).await?;
        let report = verify_path(&tampered, &self.key, &earlier).await?;
        let found = report.findings.iter().find_map(|finding| match finding {
            Finding::LeafHashDiffers { index, .. } => Some(*index),
            _ => None,
        });
        ensure!(found == Some(changed), "the changed entry {changed} was not found: {:?}", report.findings);
        self.audit.tamper_detected = true;
        Ok(Told {
            title: ("改动副本中的一个字节", "one byte of a copy changed"),
            parties: ("篡改者 → 日志副本", "forger → copy of the log"),
            result: (
                format!("已发现：第 {changed} 条与签名不符；原件完好"),
                format!("detected: entry {changed} is not what was signed; the original is sound"),
            ),
            log_index: Some(changed),
        })
    }

    /// Stops what still runs.
    pub(super) async fn finish(self) -> AuditResult {
        if let Some(district) = self.district {
            district.stop().await;
        }
        self.audit
    }

    async fn verify(&self, person: (&str, &str)) -> anyhow::Result<proto::VerifyLowIncomeResponse> {
        let request = self.question(&self.centre, person)?;
        let answer =
            self.centre.verification().verify_low_income(self.centre.request(request, DEADLINE)).await;
        Ok(answer.map_err(|status| explain(&status))?.into_inner())
    }

    fn question(
        &self,
        asker: &AgencyClient,
        (name, id_number): (&str, &str),
    ) -> anyhow::Result<proto::VerifyLowIncomeRequest> {
        let text = std::fs::read_to_string(self.folder.join("query.json"))?;
        let mut query: proto::LowIncomeQuery = from_json("LowIncomeQuery", &text)?;
        if let Some(subject) = &mut query.subject {
            name.clone_into(&mut subject.name);
            id_number.clone_into(&mut subject.id_number);
        }
        let envelope = asker.complete(proto::Envelope {
            matter_id: "LQ-2026-0001".to_owned(),
            kind: proto::Kind::LowIncomeQuery.into(),
            legal_basis: vec![proto::LegalBasis {
                law: "法律援助法".to_owned(), article: "41".to_owned()
            }],
            purpose: purposes::AID_ELIGIBILITY.to_owned(),
            classification: Some(proto::Classification {
                sensitive: Some(true),
                minor_under_14: Some(false),
            }),
            ..Default::default()
        });
        Ok(proto::VerifyLowIncomeRequest {
            envelope: Some(envelope),
            query: Some(query),
            complete_later: false,
        })
    }

    /// Pulls the centre's deliveries until all of `wanted` have come, and acknowledges each.
    async fn wait_for(&self, wanted: &[&str]) -> anyhow::Result<()> {
        let started = Instant::now();
        let mut missing: Vec<&str> = wanted.to_vec();
        while !missing.is_empty() {
            ensure!(started.elapsed() < COURT_PATIENCE, "the court did not send: {}", missing.join(", "));
            let request = proto::PullDeliveriesRequest {
                context: Some(self.centre.context(purposes::FEE_WAIVER)),
                max_deliveries: 10,
            };
            let pulled =
                self.centre.exchanges().pull_deliveries(self.centre.request(request, DEADLINE)).await;
            let pulled = pulled.map_err(|status| explain(&status))?.into_inner();
            if pulled.deliveries.is_empty() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            for delivery in pulled.deliveries {
                let message = proto::ExchangeMessage::decode(delivery.message.as_slice())?;
                missing.retain(|kind| *kind != what(&message));
                acknowledge(&self.centre, purposes::FEE_WAIVER, &delivery).await?;
            }
        }
        Ok(())
    }

    async fn supplement(&self, exchange_id: &str) -> anyhow::Result<()> {
        let exchange = get(&self.centre, purposes::FEE_WAIVER, exchange_id).await?;
        let envelope = self.centre.complete(proto::Envelope {
            matter_id: exchange.matter_id,
            kind: exchange.kind,
            recipient: exchange.recipient,
            legal_basis: vec![proto::LegalBasis {
                law: "诉讼费用交纳办法".to_owned(),
                article: "48".to_owned(),
            }],
            purpose: purposes::FEE_WAIVER.to_owned(),
            classification: Some(proto::Classification {
                sensitive: Some(true),
                minor_under_14: Some(false),
            }),
            in_reply_to: exchange_id.to_owned(),
            attachments: vec![proto::Attachment {
                sha256: vec![0x5a; 32],
                name: "委托书.pdf".to_owned(),
                media_type: "application/pdf".to_owned(),
                size_bytes: 34_567,
                form_number: String::new(),
            }],
            ..Default::default()
        });
        let supplement = proto::Supplement { note: "补交委托代理手续".to_owned() };
        let request = proto::RespondToExchangeRequest {
            envelope: Some(envelope),
            response: Some(proto::Response { kind: Some(proto::response::Kind::Supplement(supplement)) }),
        };
        let answered =
            self.centre.exchanges().respond_to_exchange(self.centre.request(request, DEADLINE)).await;
        answered.map(|_| ()).map_err(|status| explain(&status))
    }

    /// The entry that witnesses the court's decision: its last answer in the exchange.
    async fn index_of_decision(&self, exchange_id: &str) -> anyhow::Result<u64> {
        let request = proto::ListEntriesRequest {
            context: Some(self.auditor.context(purposes::AUDIT_INSPECTION)),
            filter: Some(proto::EntryFilter {
                exchange_id: exchange_id.to_owned(),
                caller: self.court.profile().agency.to_string(),
                method: "RespondToExchange".to_owned(),
                phase: "RESPONSE".to_owned(),
                ..Default::default()
            }),
            page_size: 500,
            page_token: String::new(),
        };
        let found = self.auditor.audit().list_entries(self.auditor.request(request, DEADLINE)).await;
        let found = found.map_err(|status| explain(&status))?.into_inner().entries;
        found.last().map(|stored| stored.index).ok_or_else(|| anyhow!("the decision has no entry"))
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

fn expect(answer: &proto::VerifyLowIncomeResponse, expected: VerificationResult) -> anyhow::Result<()> {
    let result = answer.answer.as_ref().map_or(0, |answer| answer.result);
    ensure!(
        result == expected as i32,
        "expected {}, got {}",
        expected.as_str_name(),
        VerificationResult::try_from(result).unwrap_or_default().as_str_name()
    );
    Ok(())
}

fn index(audit: Option<&proto::AuditReceipt>) -> Option<u64> {
    audit.map(|audit| audit.log_index)
}

/// Copies a database and changes one byte of one entry in the copy: a digit of its id, found by its text.
async fn change_one_byte(
    original: &std::path::Path,
    copy: &std::path::Path,
    index: u64,
) -> anyhow::Result<()> {
    let store = crate::store::Store::open_audit_log(original).await?;
    let stored = store.entry(index).await?.context("no such entry")?;
    store.close().await;
    let entry = Entry::from_json(&stored.entry)?;
    let mut bytes = std::fs::read(original)?;
    let id = entry.id.to_string().into_bytes();
    let at = bytes
        .windows(id.len())
        .position(|window| window == id)
        .context("the entry's id is not in the file")?;
    bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
    std::fs::write(copy, bytes)?;
    Ok(())
}
