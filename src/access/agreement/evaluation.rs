//! Whether an agreement allows a call: the one place that decides.

use std::sync::Arc;

use jiff::civil::Date;

use super::Agreement;
use super::denial::{Condition, Considered, Denial};
use super::terms::{BatchTerms, OperatorTerms, RateTerms};
use crate::access::staff::Listing;
use crate::access::{Agency, Directory, Method};
use crate::domain::agency::{CreditCode, PurposeCode, StaffNumber, UnitCode};
use crate::domain::eligibility::Programme;
use crate::domain::exchange::Kind;
use crate::domain::law::LegalBasis;

/// What is to be allowed. What a call does not have fails no condition; who asks before all is known asks again afterwards.
#[derive(Clone, Copy, Debug)]
pub struct Question<'q> {
    /// Who calls.
    pub caller: &'q CreditCode,
    /// Unit of the operator.
    pub unit: Option<&'q UnitCode>,
    /// Who acts for the caller.
    pub operator: Option<&'q StaffNumber>,
    /// What is called.
    pub method: Method,
    /// Of which kind the exchange or question is.
    pub kind: Option<Kind>,
    /// Whom it concerns on the other side.
    pub counterpart: Option<&'q CreditCode>,
    /// What for.
    pub purpose: Option<&'q PurposeCode>,
    /// The articles that a message relies on.
    pub legal_basis: Option<&'q [LegalBasis]>,
    /// The programmes asked about.
    pub programmes: &'q [Programme],
    /// The day (Asia/Shanghai).
    pub on: Date,
    /// Whether unit and operator may still become known: then it is no failure that they are not.
    pub is_early: bool,
}

impl<'q> Question<'q> {
    /// A question that says no more than this.
    pub fn new(caller: &'q CreditCode, method: Method, purpose: Option<&'q PurposeCode>, on: Date) -> Self {
        Self {
            caller,
            unit: None,
            operator: None,
            method,
            kind: None,
            counterpart: None,
            purpose,
            legal_basis: None,
            programmes: &[],
            on,
            is_early: false,
        }
    }
}

impl Directory {
    /// Whether any agreement names this caller and method. Asked before a request is even read, so that who
    /// may not call learns nothing about what would be right.
    ///
    /// # Errors
    /// [`Condition::Method`] when none does.
    pub fn may_call(&self, caller: &CreditCode, method: Method) -> Result<(), Denial> {
        self.naming(caller, method).next().map(|_| ()).ok_or(Denial::none())
    }

    /// The agreement that allows a call.
    ///
    /// # Errors
    /// The agreements that came near, and the condition of each that failed.
    pub fn decide(&self, question: &Question<'_>) -> Result<&Arc<Agreement>, Denial> {
        self.decide_but_for(question, &[])
    }

    /// The same, as if some agreements were not there: those of which nothing is left.
    ///
    /// # Errors
    /// As [`Directory::decide`].
    pub fn decide_but_for(
        &self,
        question: &Question<'_>,
        spent: &[String],
    ) -> Result<&Arc<Agreement>, Denial> {
        let naming = || self.naming(question.caller, question.method).filter(|of| !spent.contains(&of.id));
        let mut with_quota = None;
        for agreement in naming().filter(|agreement| self.first_failure(agreement, question).is_none()) {
            // One that counts nothing is not used up by what another allows.
            if agreement.quota.is_none() {
                return Ok(agreement);
            }
            with_quota = with_quota.or(Some(agreement));
        }
        let considered = || {
            naming()
                .filter_map(|agreement| Some((agreement, self.first_failure(agreement, question)?)))
                .map(|(agreement, failed)| considered(agreement, failed))
                .collect()
        };
        with_quota.ok_or_else(|| Denial::of(considered()))
    }

    /// Every agreement that names the caller and the method, each with all conditions of it that are not met.
    pub fn explain(&self, question: &Question<'_>) -> Vec<(&Arc<Agreement>, Vec<Condition>)> {
        let failures = |agreement: &Agreement| {
            let fails = |condition: &Condition| !self.holds(agreement, *condition, question);
            Condition::ALL.iter().copied().filter(fails).collect()
        };
        self.naming(question.caller, question.method).map(|of| (of, failures(of))).collect()
    }

    /// The purpose that an agreement in force on a day allows a call for, for callers that can name none: the first
    /// one of the agreement.
    ///
    /// # Errors
    /// [`Condition::Method`] or [`Condition::InForce`].
    pub fn purpose_of(&self, caller: &CreditCode, method: Method, on: Date) -> Result<&PurposeCode, Denial> {
        let allowed = self.decide(&Question::new(caller, method, None, on))?;
        allowed.purposes.first().ok_or(Denial::none())
    }

    /// How fast batches may go under an agreement.
    pub fn batch_terms(&self, agreement: &str) -> BatchTerms {
        self.agreements().of_id(agreement).and_then(|found| found.batch).unwrap_or_default()
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

    fn naming(&self, caller: &CreditCode, method: Method) -> impl Iterator<Item = &Arc<Agreement>> {
        let caller = self.agency(caller).into_iter();
        caller.flat_map(move |caller: &Agency| self.agreements().naming(caller, method))
    }

    fn first_failure(&self, agreement: &Agreement, question: &Question<'_>) -> Option<Condition> {
        Condition::ALL.iter().copied().find(|condition| !self.holds(agreement, *condition, question))
    }

    /// Whether a question meets a condition of an agreement that names its caller and method.
    fn holds(&self, agreement: &Agreement, condition: Condition, question: &Question<'_>) -> bool {
        match condition {
            Condition::Method => true,
            Condition::Unit => {
                let of_agreed = |agreed| question.unit.map_or(question.is_early, |unit| unit == agreed);
                agreement.unit.as_ref().is_none_or(of_agreed)
            }
            Condition::InForce => (agreement.from..=agreement.until).contains(&question.on),
            Condition::Kind => {
                agreement.kinds.is_empty() || question.kind.is_none_or(|kind| agreement.kinds.contains(&kind))
            }
            Condition::Purpose => question.purpose.is_none_or(|purpose| agreement.purposes.contains(purpose)),
            Condition::LegalBasis => {
                let relied_on = |relied: &[LegalBasis]| {
                    relied.iter().any(|basis| is_among(basis, &agreement.legal_basis))
                };
                agreement.legal_basis.is_empty() || question.legal_basis.is_none_or(relied_on)
            }
            Condition::Programme => question.programmes.iter().all(|programme| agreement.covers(*programme)),
            Condition::OperatorListed => self.listing(agreement, question) != Listing::NotListed,
            Condition::OperatorValid => self.listing(agreement, question) != Listing::OtherDays,
            Condition::Counterpart => question.counterpart.is_none_or(|code| {
                agreement.counterparts.iter().any(|party| party.takes_in_code(code, self))
            }),
        }
    }

    /// How the operator stands on the directory's list, where the agreement demands one.
    fn listing(&self, agreement: &Agreement, question: &Question<'_>) -> Listing {
        match (agreement.operators, question.unit, question.operator) {
            (OperatorTerms::Listed, Some(unit), Some(operator)) => {
                self.staff().listing(question.caller, unit, operator, question.on)
            }
            (OperatorTerms::Listed, ..) if !question.is_early => Listing::NotListed,
            _ => Listing::Valid,
        }
    }
}

/// Whether an article is among others: a law's title is the same with and without its brackets.
fn is_among(basis: &LegalBasis, others: &[LegalBasis]) -> bool {
    let bare = |basis: &'_ LegalBasis| basis.law().trim_matches(['《', '》']).to_owned();
    others.iter().any(|other| basis.article() == other.article() && bare(basis) == bare(other))
}

fn considered(agreement: &Agreement, failed: Condition) -> Considered {
    /// More would not help whoever reads it.
    const MOST_NAMED: usize = 8;
    let named = |words: &mut dyn Iterator<Item = String>| words.take(MOST_NAMED).collect();
    let allows = match failed {
        Condition::Unit => named(&mut agreement.unit.iter().map(ToString::to_string)),
        Condition::Kind => named(&mut agreement.kinds.iter().map(ToString::to_string)),
        Condition::Purpose => named(&mut agreement.purposes.iter().map(ToString::to_string)),
        Condition::LegalBasis => {
            let written = |basis: &LegalBasis| format!("{} {}", basis.law(), basis.article());
            named(&mut agreement.legal_basis.iter().map(written))
        }
        Condition::Programme => named(&mut agreement.programmes.iter().flatten().map(ToString::to_string)),
        _ => Vec::new(),
    };
    Considered {
        agreement: agreement.reference(),
        failed,
        in_force: (agreement.from, agreement.until),
        allows,
    }
}
