//! What of a register's answer an agreement discloses. Anything else is taken out before the answer goes further.

use std::mem::take;

use super::{Register, Withholdable};
use crate::access::Agreement;
use crate::domain::verification::AnswerField;
use crate::grpc::proto;

/// Takes out what the agreement does not disclose, and names what was there.
pub(crate) fn withhold<R: Register>(answer: &mut R::Answer, agreement: &Agreement) -> Vec<AnswerField> {
    let mut withheld = Vec::new();
    if agreement.programmes.is_some()
        && R::leave_out_programmes(answer, &|programme| agreement.covers(programme))
    {
        withheld.push(AnswerField::Programmes);
    }
    for (field, take_out) in R::withholdable() {
        if !agreement.tells(*field) && take_out(answer) && !withheld.contains(field) {
            withheld.push(*field);
        }
    }
    withheld
}

/// Of the low-income register.
pub(super) const OF_LOW_INCOME: &[Withholdable<proto::LowIncomeAnswer>] = &[
    (AnswerField::CertificateNumber, |answer| {
        each(answer, |status| !take(&mut status.certificate_number).is_empty())
    }),
    (AnswerField::CertificateFrom, |answer| each(answer, |status| status.valid_from.take().is_some())),
    (AnswerField::CertificateTo, |answer| each(answer, |status| status.valid_to.take().is_some())),
    (AnswerField::Organ, |answer| each(answer, |status| !take(&mut status.organ).is_empty())),
    (AnswerField::Programmes, |answer| !take(&mut answer.programmes).is_empty()),
    (AnswerField::HouseholdSize, |answer| answer.household_size.take().is_some()),
    // The line comes with the band, and is told with it only.
    (AnswerField::IncomeBand, |answer| {
        let line = (answer.line_fen.take(), answer.line_in_force_from.take());
        take(&mut answer.income_band) != 0 || line != (None, None)
    }),
];

/// Takes something out of every programme; whether it was in any.
fn each(answer: &mut proto::LowIncomeAnswer, take_out: impl Fn(&mut proto::ProgrammeStatus) -> bool) -> bool {
    let mut any = false;
    for status in &mut answer.programmes {
        any |= take_out(status);
    }
    any
}

/// Of the register of poverty households.
pub(super) const OF_POVERTY_HOUSEHOLDS: &[Withholdable<proto::PovertyHouseholdAnswer>] = &[
    (AnswerField::Kind, |answer| take(&mut answer.kind) != 0),
    (AnswerField::Risk, |answer| take(&mut answer.risk) != 0),
    (AnswerField::IdentifiedOn, |answer| answer.identified_on.take().is_some()),
    (AnswerField::RemovedOn, |answer| answer.removed_on.take().is_some()),
    (AnswerField::VillageCode, |answer| !take(&mut answer.village_code).is_empty()),
    (AnswerField::HouseholdSize, |answer| answer.household_size.take().is_some()),
];
