//! What every message between agencies carries.

use super::agency::{CreditCode, MatterId, PurposeCode, StaffNumber, UnitCode};
use super::exchange::{ExchangeId, Kind, RequestId};
use super::law::{Law, LegalBasis};
use super::person::PersonName;
use super::region::RegionCode;

/// The schema version of all kinds today.
pub const SCHEMA_VERSION: u32 = 1;

/// The outside of a message.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// The caller's id of the call.
    pub request_id: RequestId,
    /// The centre's matter.
    pub matter_id: MatterId,
    /// What the message is.
    pub kind: Kind,
    /// Who sends it; the certificate's agency.
    pub sender: CreditCode,
    /// Who receives it; `None` only where the gateway routes by region.
    pub recipient: Option<CreditCode>,
    /// Where the matter is handled.
    pub region: RegionCode,
    /// Who acts at the sender.
    pub operator: Operator,
    /// The articles relied on; at least one.
    pub legal_basis: Vec<LegalBasis>,
    /// What it is for.
    pub purpose: PurposeCode,
    /// The exchange that is answered.
    pub in_reply_to: Option<ExchangeId>,
}

/// Who acts at an agency.
#[derive(Clone, Debug)]
pub struct Operator {
    /// Staff number.
    pub staff_number: StaffNumber,
    /// Name; personal, so it leaves only as a commitment.
    pub name: Option<PersonName>,
    /// Unit or station.
    pub unit: UnitCode,
}

/// How a legal basis is written in the audit log. A law's title is free text, which could hide a name: only
/// titles known here are written out.
pub fn auditable(basis: &LegalBasis) -> String {
    const TITLES: [Law; 6] = [
        Law::LegalAidLaw,
        Law::CourtFeeMeasures,
        Law::CivilProcedureLaw,
        Law::NetworkDataRegulation,
        Law::PersonalInformationProtectionLaw,
        Law::JudicialReliefOpinions,
    ];
    let title = basis.law().trim_matches(['《', '》']);
    let known = TITLES.iter().map(|law| law.name()).find(|name| *name == title);
    format!("{} {}", known.unwrap_or("OTHER"), basis.article())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_titles_reach_the_log() {
        let basis = |law| auditable(&LegalBasis::parse(law, "41").unwrap());
        assert_eq!(basis("法律援助法"), "法律援助法 41");
        assert_eq!(basis("张三的法律"), "OTHER 41");
    }
}
