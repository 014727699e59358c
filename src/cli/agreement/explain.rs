//! `agreement explain`: what the agreements make of a call.

use anyhow::Context as _;
use clap::Args;

use crate::cli::deliveries::{DEADLINE, Operator};
use crate::cli::output::{explain, list, say, say_json};
use crate::grpc::generated::google::r#type::Date;
use crate::grpc::json::to_json;
use crate::grpc::proto;

/// Arguments of `agreement explain`.
#[derive(Debug, Args)]
#[command(after_help = "\
What is left out stands in no one's way: without --purpose, an agreement is looked at as if the purpose fitted.")]
pub(in crate::cli) struct Explain {
    #[command(flatten)]
    operator: Operator,
    /// Who would call.
    #[arg(long, value_name = "CODE")]
    caller: String,
    /// The method, such as VerifyLowIncome.
    #[arg(long)]
    method: String,
    /// Whom it would concern on the other side.
    #[arg(long, value_name = "CODE", default_value = "")]
    counterpart: String,
    /// What for.
    #[arg(id = "wanted", long = "for", value_name = "PURPOSE", default_value = "")]
    purpose: String,
    /// Of which kind it would be, such as FEE_WAIVER.
    #[arg(long)]
    kind: Option<String>,
    /// Unit and staff number of who would act, with a slash between them.
    #[arg(long, value_name = "UNIT/NUMBER")]
    staff: Option<String>,
    /// An article that it would rely on, such as "法律援助法 41"; may be repeated.
    #[arg(long, value_name = "ARTICLE")]
    basis: Vec<String>,
    /// The day, such as 2026-12-01; today without it.
    #[arg(long, value_name = "DAY")]
    on: Option<jiff::civil::Date>,
}

impl Explain {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = self.operator.client()?;
        let kind = self.kind.as_deref().map(|word| {
            let name = format!("KIND_{}", word.to_uppercase().replace('-', "_"));
            proto::Kind::from_str_name(&name).with_context(|| format!("there is no kind {word}"))
        });
        let staff = self.staff.as_deref().map(|text| {
            let (unit, staff_number) = text.split_once('/').context("--staff takes UNIT/NUMBER")?;
            anyhow::Ok(proto::Operator {
                staff_number: staff_number.to_owned(),
                name: String::new(),
                unit: unit.to_owned(),
            })
        });
        let basis = |text: &String| {
            let (law, article) =
                text.rsplit_once(' ').context("--basis takes an article such as 法律援助法 41")?;
            anyhow::Ok(proto::LegalBasis { law: law.to_owned(), article: article.to_owned() })
        };
        let on = |day: jiff::civil::Date| Date {
            year: day.year().into(),
            month: day.month().into(),
            day: day.day().into(),
        };
        let request = proto::ExplainAgreementRequest {
            context: Some(self.operator.context(&client, None)),
            caller: self.caller,
            method: self.method,
            operator: staff.transpose()?,
            kind: kind.transpose()?.unwrap_or_default().into(),
            counterpart: self.counterpart,
            purpose: self.purpose,
            legal_basis: self.basis.iter().map(basis).collect::<Result<_, _>>()?,
            programmes: Vec::new(),
            as_of: self.on.map(on),
        };
        let answer = client.agreements().explain_agreement(client.request(request, DEADLINE)).await;
        let answer = answer.map_err(|status| explain(&status))?.into_inner();
        if self.operator.json {
            say_json(&to_json("ExplainAgreementResponse", &answer)?);
            return Ok(());
        }
        if answer.allowed {
            say(format_args!("allowed by {} version {}", answer.agreement_id, answer.version));
        } else {
            say("not allowed");
        }
        if answer.considered.is_empty() {
            say("no agreement names this caller and method");
            return Ok(());
        }
        let mut rows = list(&["agreement", "version", "what stands in the way"]);
        for considered in &answer.considered {
            let unmet =
                considered.unmet.iter().map(|unmet| format!("{}: {}", unmet.condition, unmet.description));
            let unmet: Vec<_> = unmet.collect();
            let unmet = if unmet.is_empty() { "nothing".to_owned() } else { unmet.join("\n") };
            rows.add_row([considered.agreement_id.clone(), considered.version.to_string(), unmet]);
        }
        say(rows);
        Ok(())
    }
}
