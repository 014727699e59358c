//! Households, asked of the registers: one, many, later, and for an assessment.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use tonic::codegen::tokio_stream;

use super::{DEADLINE, Told, Walk, day, index};
use crate::cli::demo::stage::{ON_REGISTER, REGION, SEED};
use crate::cli::output::explain;
use crate::client::AgencyClient;
use crate::grpc::json::from_json;
use crate::grpc::proto;
use crate::grpc::proto::batch_verify_request::Question;
use crate::grpc::proto::batch_verify_response::Result as Outcome;
use crate::grpc::proto::exchange_message::Body;
use crate::grpc::proto::verification_outcome::Answer;
use crate::grpc::proto::{RuleVerdict, VerificationResult, VerificationState};
use crate::setup::{NOT_ON_THE_REGISTER, ON_THE_REGISTER, purposes};
use crate::simulator::people::person;

/// How many people the batch asks about.
const PEOPLE: u32 = 50;

impl Walk {
    pub(in crate::cli::demo) async fn household_on_register(&mut self) -> anyhow::Result<Told> {
        let answer = self.verify(ON_THE_REGISTER).await?;
        expect(result_of(&answer), VerificationResult::Match)?;
        let until = answer.answer.as_ref().and_then(|answer| answer.valid_until);
        let until =
            until.map(|day| format!("{:04}-{:02}-{:02}", day.year, day.month, day.day)).unwrap_or_default();
        Ok(Told {
            title: ("核查：在册家庭", "verify: on the register"),
            parties: ("援助中心 → 民政系统", "centre → registry"),
            result: (
                format!("MATCH：在册，低保在领；收入在标准线内；答复有效至{until}"),
                format!(
                    "MATCH: on the register, allowance active; income within the line; valid until {until}"
                ),
            ),
            log_index: index(answer.audit.as_ref()),
        })
    }

    pub(in crate::cli::demo) async fn household_not_on_register(&mut self) -> anyhow::Result<Told> {
        let answer = self.verify(NOT_ON_THE_REGISTER).await?;
        expect(result_of(&answer), VerificationResult::NoMatch)?;
        Ok(Told {
            title: ("核查：不在册家庭", "verify: not on the register"),
            parties: ("援助中心 → 民政系统", "centre → registry"),
            result: (
                "NO_MATCH：不在册；这不是拒绝，可改用个人诚信承诺".to_owned(),
                "NO_MATCH: not on it; no refusal: an undertaking may take its place".to_owned(),
            ),
            log_index: index(answer.audit.as_ref()),
        })
    }

    pub(in crate::cli::demo) async fn poverty_household(&mut self) -> anyhow::Result<Told> {
        let text = std::fs::read_to_string(self.folder.join("poverty-query.json"))?;
        let query: proto::PovertyHouseholdQuery = from_json("PovertyHouseholdQuery", &text)?;
        let envelope = question_envelope(&self.centre, proto::Kind::PovertyHouseholdQuery);
        let request = proto::VerifyPovertyHouseholdRequest {
            envelope: Some(envelope),
            query: Some(query),
            complete_later: false,
        };
        let call = self.centre.request(request, DEADLINE);
        let response = self.centre.verification().verify_poverty_household(call).await;
        let response = response.map_err(|status| explain(&status))?.into_inner();
        let answer = response.answer.unwrap_or_default();
        expect(answer.result(), VerificationResult::Match)?;
        ensure!(
            answer.kind() == proto::PovertyHouseholdKind::Edge && answer.risk() == proto::PovertyRisk::Open,
            "the household stands otherwise on the register"
        );
        ensure!(response.registry == crate::setup::codes::POVERTY_REGISTRY, "another register answered");
        let since = day(answer.identified_on.as_ref());
        Ok(Told {
            title: ("核查：防返贫监测户", "verify: poverty household"),
            parties: ("援助中心 → 乡村振兴系统", "centre → poverty registry"),
            result: (
                format!("MATCH：边缘易致贫户，{since}识别，风险未消除"),
                format!("MATCH: on the edge of poverty since {since}, risk stands"),
            ),
            log_index: index(response.audit.as_ref()),
        })
    }

    pub(in crate::cli::demo) async fn registry_down(&mut self) -> anyhow::Result<Told> {
        self.district()?.stop_registry().await;
        let answered = self.ask_while_down().await;
        self.district()?.start_registry().await?;
        let answered = answered?;
        let steps = answered.answer.as_ref().map(|answer| answer.next_steps.as_slice()).unwrap_or_default();
        let articles: BTreeSet<_> = steps.iter().map(|step| step.article.as_str()).collect();
        for article in ["法律援助法 art 41", "法律援助法 art 44"] {
            ensure!(articles.contains(article), "UNAVAILABLE came without what {article} allows");
        }
        self.pending = Some(answered.verification_id);
        Ok(Told {
            title: ("核查：民政系统停机", "verify: the registry is down"),
            parties: ("援助中心 → （无应答）", "centre → (no answer)"),
            result: (
                "UNAVAILABLE，不是拒绝：可凭个人承诺（法律援助法第41条），可先行援助（第44条）；网关稍后再问".to_owned(),
                "UNAVAILABLE, no refusal: an undertaking (Legal Aid Law 41) or aid first (44); asked again later"
                    .to_owned(),
            ),
            log_index: index(answered.audit.as_ref()),
        })
    }

    async fn ask_while_down(&self) -> anyhow::Result<proto::VerifyLowIncomeResponse> {
        let mut request = self.question(&self.centre, ON_THE_REGISTER)?;
        request.complete_later = true;
        let answered = self.ask(request).await?;
        expect(result_of(&answered), VerificationResult::Unavailable)?;
        let kept = self.verification(&answered.verification_id).await?;
        ensure!(kept.state() == VerificationState::Pending, "the question was not kept");
        Ok(answered)
    }

    pub(in crate::cli::demo) async fn answered_later(&mut self) -> anyhow::Result<Told> {
        let id = self.pending.take().context("no question was kept")?;
        let delivered = self.take(purposes::AID_ELIGIBILITY, &id, &["verification"]).await?;
        let body = delivered.into_iter().find_map(|message| message.body);
        let Some(Body::Verification(outcome)) = body else { anyhow::bail!("another message was delivered") };
        let Some(Answer::LowIncome(answer)) = &outcome.answer else { anyhow::bail!("another register") };
        expect(answer.result(), VerificationResult::Match)?;
        let kept = self.verification(&id).await?;
        ensure!(kept.state() == VerificationState::Answered, "the verification is not ANSWERED");
        ensure!(kept.outcome.as_ref() == Some(&outcome), "what was delivered differs from what is read");
        let log_index = self.index_of("VerifyLowIncome", &id, self.centre.profile().agency.as_str()).await?;
        let times = kept.attempts;
        Ok(Told {
            title: ("民政系统恢复：补送答复", "registry back: the answer follows"),
            parties: ("民政系统 → 援助中心", "registry → centre"),
            result: (
                format!("网关再问{times}次，得到MATCH，作为送达件交给中心"),
                format!("asked again (attempt {times}): MATCH, delivered to the centre"),
            ),
            log_index: Some(log_index),
        })
    }

    pub(in crate::cli::demo) async fn batch_of_people(&mut self) -> anyhow::Result<Told> {
        let context = Some(self.centre.context(purposes::AID_ELIGIBILITY));
        let mut items = vec![proto::BatchVerifyRequest { context, question: None }];
        for place in 0..PEOPLE {
            let person = person(SEED, REGION, place);
            let question = self.question(&self.centre, (&person.name, &person.id_number))?;
            items.push(proto::BatchVerifyRequest {
                context: None,
                question: Some(Question::LowIncome(question)),
            });
        }
        let stream = self.centre.verification().batch_verify(tokio_stream::iter(items)).await;
        let mut stream = stream.map_err(|status| explain(&status))?.into_inner();
        let (mut matched, mut unmatched, mut entries) = (0, 0, BTreeSet::new());
        let mut begun = None;
        while let Some(item) = stream.message().await.map_err(|status| explain(&status))? {
            begun = begun.or(index(item.audit.as_ref()));
            let Some(Outcome::LowIncome(answered)) = item.result else {
                anyhow::bail!("question {} was refused", item.number)
            };
            // The first people are those on the register.
            let on_it = item.number <= u64::from(ON_REGISTER);
            let expected = if on_it { VerificationResult::Match } else { VerificationResult::NoMatch };
            expect(result_of(&answered), expected)?;
            *(if on_it { &mut matched } else { &mut unmatched }) += 1;
            entries.extend(index(answered.audit.as_ref()));
        }
        ensure!(matched + unmatched == PEOPLE, "{} of {PEOPLE} were answered", matched + unmatched);
        ensure!(entries.len() == PEOPLE as usize, "there are {} entries for {PEOPLE} people", entries.len());
        Ok(Told {
            title: ("批量核查", "verify: a batch of people"),
            parties: ("援助中心 ⇄ 民政系统", "centre ⇄ registry"),
            result: (
                format!("{PEOPLE}人一次提交：{matched}人在册，{unmatched}人不在册；每人各有日志记录"),
                format!(
                    "{PEOPLE} people on one stream: {matched} MATCH, {unmatched} NO_MATCH; each has its own entries"
                ),
            ),
            log_index: begun,
        })
    }

    pub(in crate::cli::demo) async fn eligibility_assessed(&mut self) -> anyhow::Result<Told> {
        let text = std::fs::read_to_string(self.folder.join("case.json"))?;
        let request = proto::AssessEligibilityRequest {
            envelope: Some(question_envelope(&self.centre, proto::Kind::LowIncomeQuery)),
            eligibility_case: Some(from_json("EligibilityCase", &text)?),
        };
        let response =
            self.centre.eligibility().assess_eligibility(self.centre.request(request, DEADLINE)).await;
        let response = response.map_err(|status| explain(&status))?.into_inner();
        ensure!(
            response.outcome() == proto::EligibilityOutcome::Passported,
            "the outcome is {}",
            response.outcome().as_str_name()
        );
        let decided = response.rules.last().context("the outcome has no rule")?;
        ensure!(
            decided.verdict() == RuleVerdict::Met && decided.rule == "programme/minimum-allowance",
            "{} decided",
            decided.rule
        );
        let asked = response.registers.first().context("no register was asked")?;
        expect(asked.result(), VerificationResult::Match)?;
        let due = response.due.iter().find(|due| due.code == "DECISION").context("nothing is due")?;
        ensure!(decided.article == "法律援助法 art 42(2)", "the rule has another article");
        let (tried, by) = (response.rules.len(), day(due.due_on.as_ref()));
        Ok(Told {
            title: ("资格评估", "eligibility assessed"),
            parties: ("援助中心 → 网关", "centre → gateway"),
            result: (
                format!("PASSPORTED：低保在册（法律援助法第42条）；依次适用{tried}条规则；{by}前由人决定"),
                format!(
                    "PASSPORTED by allowance (Legal Aid Law 42(2)), {tried} rules tried; a person decides by {by}"
                ),
            ),
            log_index: index(response.audit.as_ref()),
        })
    }

    async fn verify(&self, person: (&str, &str)) -> anyhow::Result<proto::VerifyLowIncomeResponse> {
        self.ask(self.question(&self.centre, person)?).await
    }

    async fn ask(
        &self,
        request: proto::VerifyLowIncomeRequest,
    ) -> anyhow::Result<proto::VerifyLowIncomeResponse> {
        let call = self.centre.request(request, DEADLINE);
        let answer = self.centre.verification().verify_low_income(call).await;
        Ok(answer.map_err(|status| explain(&status))?.into_inner())
    }

    async fn verification(&self, id: &str) -> anyhow::Result<proto::Verification> {
        let request = proto::GetVerificationRequest {
            context: Some(self.centre.context(purposes::AID_ELIGIBILITY)),
            verification_id: id.to_owned(),
        };
        let read = self.centre.verification().get_verification(self.centre.request(request, DEADLINE)).await;
        let read = read.map_err(|status| explain(&status))?.into_inner();
        read.verification.context("the gateway answered without a verification")
    }

    /// A question about a person to the low-income register.
    pub(super) fn question(
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
        let envelope = question_envelope(asker, proto::Kind::LowIncomeQuery);
        Ok(proto::VerifyLowIncomeRequest {
            envelope: Some(envelope),
            query: Some(query),
            complete_later: false,
        })
    }
}

fn question_envelope(asker: &AgencyClient, kind: proto::Kind) -> proto::Envelope {
    asker.complete(proto::Envelope {
        matter_id: "LQ-2026-0001".to_owned(),
        kind: kind.into(),
        legal_basis: vec![proto::LegalBasis { law: "法律援助法".to_owned(), article: "41".to_owned() }],
        purpose: purposes::AID_ELIGIBILITY.to_owned(),
        classification: Some(proto::Classification { sensitive: Some(true), minor_under_14: Some(false) }),
        ..Default::default()
    })
}

fn result_of(response: &proto::VerifyLowIncomeResponse) -> VerificationResult {
    response.answer.as_ref().map(proto::LowIncomeAnswer::result).unwrap_or_default()
}

fn expect(result: VerificationResult, expected: VerificationResult) -> anyhow::Result<()> {
    ensure!(result == expected, "expected {}, got {}", expected.as_str_name(), result.as_str_name());
    Ok(())
}
