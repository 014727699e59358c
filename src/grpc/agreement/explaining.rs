//! `ExplainAgreement`: what the agreements make of a call that might be made.

use jiff::civil::Date;

use super::terms;
use crate::access::{Condition, Method, Question};
use crate::domain::agency::{CreditCode, PurposeCode, StaffNumber, UnitCode};
use crate::domain::eligibility::Programme;
use crate::domain::exchange::Kind;
use crate::domain::law::LegalBasis;
use crate::domain::violation::Violations;
use crate::grpc::call::Call;
use crate::grpc::intake::Intake;
use crate::grpc::operation::{Facts, Lookup, Operation, Reading};
use crate::grpc::proto;
use crate::grpc::status::Refusal;
use crate::grpc::wire::{call_context, civil_date, legal_basis, shanghai_day};

/// `AgreementService.ExplainAgreement`.
pub(super) struct ExplainAgreement;

/// A call that might be made.
pub(super) struct Explain {
    caller: CreditCode,
    method: Method,
    operator: Option<(UnitCode, StaffNumber)>,
    kind: Option<Kind>,
    counterpart: Option<CreditCode>,
    purpose: Option<PurposeCode>,
    legal_basis: Option<Vec<LegalBasis>>,
    programmes: Vec<Programme>,
    on: Date,
}

impl Operation for ExplainAgreement {
    const METHOD: Method = Method::ExplainAgreement;
    type Request = proto::ExplainAgreementRequest;
    type Response = proto::ExplainAgreementResponse;
    type Task = Explain;

    fn read(request: Self::Request, reading: &mut Reading) -> Option<Explain> {
        let v = &mut reading.violations;
        reading.facts.of_context(call_context(v, request.context.as_ref()));
        let caller = v.check("caller", CreditCode::parse(&request.caller));
        let method = terms::method(v, "method", &request.method);
        let operator = request.operator.as_ref().and_then(|of| operator(v, of));
        let kind = if request.kind == 0 { None } else { terms::kind_read(v, "kind", request.kind) };
        let counterpart =
            given(&request.counterpart).and_then(|code| v.check("counterpart", CreditCode::parse(code)));
        let purpose = given(&request.purpose).and_then(|code| v.check("purpose", PurposeCode::parse(code)));
        let legal_basis = (!request.legal_basis.is_empty()).then(|| legal_basis(v, &request.legal_basis));
        let programmes = request.programmes.iter().take(8).enumerate();
        let programmes = programmes
            .filter_map(|(place, value)| terms::programme(v, &format!("programmes[{place}]"), *value))
            .collect();
        let on = request.as_of.as_ref().map(civil_date);
        if on == Some(None) {
            v.add("as_of", "DATE", "is not a date", "日期无效");
        }
        let on = on.flatten().unwrap_or_else(|| shanghai_day(reading.now));
        let (caller, method) = (caller?, method?);
        Some(Explain { caller, method, operator, kind, counterpart, purpose, legal_basis, programmes, on })
    }
}

fn given(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

fn operator(violations: &mut Violations, value: &proto::Operator) -> Option<(UnitCode, StaffNumber)> {
    violations.within("operator", |v| {
        let unit = v.check("unit", UnitCode::parse(&value.unit));
        let staff_number = v.check("staff_number", StaffNumber::parse(&value.staff_number));
        unit.zip(staff_number)
    })
}

impl Lookup for ExplainAgreement {
    async fn look_up(
        intake: &Intake,
        _: &Call,
        asked: Explain,
        _: &mut Facts,
    ) -> Result<Self::Response, Refusal> {
        let question = Question {
            caller: &asked.caller,
            unit: asked.operator.as_ref().map(|(unit, _)| unit),
            operator: asked.operator.as_ref().map(|(_, staff_number)| staff_number),
            method: asked.method,
            kind: asked.kind,
            counterpart: asked.counterpart.as_ref(),
            purpose: asked.purpose.as_ref(),
            legal_basis: asked.legal_basis.as_deref(),
            programmes: &asked.programmes,
            on: asked.on,
            is_early: true,
        };
        let directory = intake.directory.load();
        let allowing = directory.decide(&question).ok();
        let considered = directory.explain(&question).into_iter().take(200);
        let considered = considered.map(|(agreement, unmet)| proto::AgreementExplanation {
            agreement_id: agreement.id.clone(),
            version: agreement.version,
            unmet: unmet.into_iter().map(unmet_on_wire).collect(),
        });
        Ok(proto::ExplainAgreementResponse {
            allowed: allowing.is_some() && directory.is_active(&asked.caller),
            agreement_id: allowing.map(|agreement| agreement.id.clone()).unwrap_or_default(),
            version: allowing.map(|agreement| agreement.version).unwrap_or_default(),
            considered: considered.collect(),
            audit: None,
        })
    }
}

fn unmet_on_wire(condition: Condition) -> proto::UnmetCondition {
    proto::UnmetCondition {
        condition: condition.as_str().to_owned(),
        description: condition.description().to_owned(),
        description_zh: condition.description_zh().to_owned(),
    }
}
