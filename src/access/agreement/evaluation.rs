//! Whether an agreement allows a call.

use jiff::civil::Date;

use super::Agreement;
use super::denial::{Denial, later};
use super::terms::{BatchTerms, RateTerms};
use crate::access::{Directory, Method};
use crate::audit::entry::AgreementReference;
use crate::domain::agency::{CreditCode, PurposeCode};

impl Directory {
    /// Whether any agreement names this caller and method. Asked before a request is even read, so that who
    /// may not call learns nothing about what would be right.
    ///
    /// # Errors
    /// [`Denial::NoAgreement`] when none does.
    pub fn may_call(&self, caller: &CreditCode, method: Method) -> Result<(), Denial> {
        self.naming(caller, method).next().map(|_| ()).ok_or(Denial::NoAgreement)
    }

    /// The agreement that allows a call on a day.
    ///
    /// # Errors
    /// The condition that failed last, in the order method, day, purpose, counterpart.
    pub fn decide(
        &self,
        caller: &CreditCode,
        method: Method,
        counterpart: Option<&CreditCode>,
        purpose: &PurposeCode,
        on: Date,
    ) -> Result<AgreementReference, Denial> {
        let mut denial = Denial::NoAgreement;
        for agreement in self.naming(caller, method) {
            if !(agreement.from..=agreement.until).contains(&on) {
                denial = later(denial, Denial::NotInForce);
            } else if !agreement.purposes.contains(purpose) {
                denial = later(denial, Denial::Purpose);
            } else if counterpart.is_some_and(|code| !agreement.counterparts.contains(code)) {
                denial = later(denial, Denial::Counterpart);
            } else {
                return Ok(agreement.reference());
            }
        }
        Err(denial)
    }

    /// The purpose that an agreement in force on a day allows a call for, for callers that can name none: the first
    /// one of the agreement.
    ///
    /// # Errors
    /// [`Denial::NoAgreement`] or [`Denial::NotInForce`].
    pub fn purpose_of(&self, caller: &CreditCode, method: Method, on: Date) -> Result<&PurposeCode, Denial> {
        self.may_call(caller, method)?;
        let mut in_force =
            self.naming(caller, method).filter(|agreed| (agreed.from..=agreed.until).contains(&on));
        in_force.find_map(|agreed| agreed.purposes.first()).ok_or(Denial::NotInForce)
    }

    /// How fast batches may go under an agreement of the caller's.
    pub fn batch_terms(&self, caller: &CreditCode, agreement: &str) -> BatchTerms {
        let of_caller = self.agreements.get(caller).map(Vec::as_slice).unwrap_or_default();
        let found = of_caller.iter().find(|found| found.id == agreement);
        found.and_then(|found| found.batch).unwrap_or_default()
    }

    /// The agreements in force on a day that name this caller and method, each with its rate.
    pub fn rate_terms(
        &self,
        caller: &CreditCode,
        method: Method,
        on: Date,
    ) -> impl Iterator<Item = (&str, Option<RateTerms>)> {
        let in_force = self.naming(caller, method).filter(move |of| (of.from..=of.until).contains(&on));
        in_force.map(|agreement| (agreement.id.as_str(), agreement.rate))
    }

    fn naming(&self, caller: &CreditCode, method: Method) -> impl Iterator<Item = &Agreement> {
        let of_caller = self.agreements.get(caller).map(Vec::as_slice).unwrap_or_default();
        of_caller.iter().filter(move |agreement| agreement.methods.contains(&method))
    }
}
