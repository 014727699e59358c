//! Whether a call is allowed, and what it counts against.

use std::sync::Arc;

use jiff::civil::Date;

use super::{Intake, store_refusal};
use crate::access::{Agreement, Denial, Method, Question};
use crate::domain::agency::CreditCode;
use crate::domain::violation::Violations;
use crate::grpc::call::Call;
use crate::grpc::operation::{Facts, Operation, Reading};
use crate::grpc::quota::{quota_use, refusal_of};
use crate::grpc::status::Refusal;
use crate::grpc::wire::shanghai_day;
use crate::store::{Effect, QuotaUse};

impl Intake {
    /// What the caller asks, and whether it may call at all.
    pub(super) fn admit<O: Operation>(
        &self,
        call: &Call,
        message: O::Request,
    ) -> (Facts, Result<O::Task, Refusal>) {
        let mut reading = Reading {
            caller: call.caller(),
            now: call.arrived(),
            violations: Violations::new(),
            facts: Facts::default(),
        };
        let task = O::read(message, &mut reading);
        let Reading { violations, facts, .. } = reading;
        let admitted = self.admit_read(call, O::METHOD, &facts, violations);
        (facts, admitted.and_then(|()| task.ok_or(Refusal::Internal)))
    }

    fn admit_read(
        &self,
        call: &Call,
        method: Method,
        facts: &Facts,
        violations: Violations,
    ) -> Result<(), Refusal> {
        // Before its violations: who may not call is told nothing about what would be right.
        match self.decide_early(call, method, facts) {
            Err(denial) => Err(Refusal::Denied(Box::new(denial))),
            Ok(_) if !violations.is_empty() => Err(Refusal::Invalid(violations.into_vec())),
            Ok(_) if call.time_left().is_zero() => Err(Refusal::DeadlineExceeded),
            Ok(_) => Ok(()),
        }
    }

    /// Whether an agreement would allow the call, as far as that is known before anything is looked up: the counterpart is
    /// left out, so that the answer is the same whatever exists.
    fn decide_early(&self, call: &Call, method: Method, facts: &Facts) -> Result<Arc<Agreement>, Denial> {
        let (caller, directory) = (call.caller(), self.directory.load());
        let question = facts.question(&caller, method, shanghai_day(call.arrived()));
        let question = Question { counterpart: None, is_early: true, ..question };
        directory.decide_but_for(&question, &facts.spent).map(Arc::clone)
    }

    /// Whether an agreement in force allows the call.
    pub(crate) fn allow(&self, call: &Call, method: Method, facts: &mut Facts) -> Result<(), Refusal> {
        self.allow_on(call, method, facts, shanghai_day(call.arrived()))
    }

    /// Whether an agreement in force on `today` allows the call: a stream may live longer than the day on which it began.
    pub(super) fn allow_on(
        &self,
        call: &Call,
        method: Method,
        facts: &mut Facts,
        today: Date,
    ) -> Result<(), Refusal> {
        if facts.purpose.is_none() {
            return Err(Refusal::Internal);
        }
        let (caller, directory) = (call.caller(), self.directory.load());
        let decision = directory.decide_but_for(&facts.question(&caller, method, today), &facts.spent);
        let decision = decision.map(Arc::clone);
        // What was found must look like what is not there.
        let is_found = facts.found_counterpart;
        let agreement = decision.map_err(|denial| match is_found {
            true => Refusal::DeniedUntold(Box::new(denial)),
            false => Refusal::Denied(Box::new(denial)),
        })?;
        facts.agreement = Some(agreement.reference());
        facts.allowed_by = Some(agreement);
        Ok(())
    }

    /// A refusal of what was looked up, or in its place that no agreement allows to be told of it.
    pub(super) fn unless_untold(
        &self,
        call: &Call,
        method: Method,
        facts: &mut Facts,
        refusal: Refusal,
    ) -> Refusal {
        if !facts.found_counterpart {
            return refusal;
        }
        self.allow(call, method, facts).err().unwrap_or(refusal)
    }

    /// Whether anything is left of an agreement that may allow the call. Asked before anything is looked up: when nothing is
    /// left, what exists and what does not are refused alike. The count itself is made with the call's entry.
    pub(super) async fn has_quota_left(
        &self,
        call: &Call,
        method: Method,
        facts: &mut Facts,
    ) -> Result<(), Refusal> {
        loop {
            let Ok(agreement) = self.decide_early(call, method, facts) else { return Ok(()) };
            let Some(counted) = self.counted(call, facts, &agreement) else { return Ok(()) };
            let spent = self.store.spent_window(&counted).await.map_err(|error| store_refusal(&error))?;
            let Some(window) = spent else { return Ok(()) };
            facts.spent.push(agreement.id.clone());
            if self.decide_early(call, method, facts).is_err() {
                return Err(refusal_of(&agreement, &window, self.clock.now()));
            }
        }
    }

    /// What the call counts against under the agreement that allows it.
    pub(in crate::grpc) fn counting(&self, call: &Call, facts: &Facts) -> Option<Effect> {
        let agreement = facts.allowed_by.as_ref()?;
        self.counted(call, facts, agreement).map(|counted| Effect::CountUse(Box::new(counted)))
    }

    /// Whether nothing is left of an agreement for a call. The count itself is made with the call's entry.
    pub(in crate::grpc) async fn is_spent(
        &self,
        call: &Call,
        facts: &Facts,
        agreement: &Agreement,
    ) -> Result<bool, Refusal> {
        let Some(counted) = self.counted(call, facts, agreement) else { return Ok(false) };
        let spent = self.store.spent_window(&counted).await.map_err(|error| store_refusal(&error))?;
        Ok(spent.is_some())
    }

    fn counted(&self, call: &Call, facts: &Facts, agreement: &Agreement) -> Option<QuotaUse> {
        quota_use(agreement, call.caller(), facts.operator.as_ref(), self.clock.now())
    }

    /// Another agreement that allows the call, when nothing is left of the one that did.
    pub(super) async fn allow_by_another(
        &self,
        call: &Call,
        method: Method,
        facts: &mut Facts,
    ) -> Result<(), Refusal> {
        let spent = facts.allowed_by.take().ok_or(Refusal::Internal)?;
        facts.spent.push(spent.id.clone());
        let Err(denied) = self.allow(call, method, facts) else { return Ok(()) };
        // While another agreement would let a call go on as far as that nothing was found, what was found looks the same.
        if facts.found_counterpart && self.decide_early(call, method, facts).is_ok() {
            self.has_quota_left(call, method, facts).await?;
            return Err(denied);
        }
        let counted = self.counted(call, facts, &spent).ok_or(Refusal::Internal)?;
        let window = self.store.spent_window(&counted).await.map_err(|error| store_refusal(&error))?;
        let window = window.or_else(|| counted.windows.first().cloned()).ok_or(Refusal::Internal)?;
        Err(refusal_of(&spent, &window, self.clock.now()))
    }
}

impl Facts {
    /// What is to be decided of a call.
    pub(in crate::grpc) fn question<'f>(
        &'f self,
        caller: &'f CreditCode,
        method: Method,
        on: Date,
    ) -> Question<'f> {
        Question {
            caller,
            unit: self.operator.as_ref().map(|operator| &operator.unit),
            operator: self.operator.as_ref().map(|operator| &operator.staff_number),
            method,
            kind: self.kind,
            counterpart: self.counterpart.as_ref(),
            purpose: self.purpose.as_ref(),
            legal_basis: self.relied_on.as_deref(),
            programmes: &self.programmes,
            on,
            is_early: false,
        }
    }
}
