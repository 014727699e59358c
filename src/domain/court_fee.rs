//! The court's acceptance fee by the Measures on the Payment of Litigation Costs (诉讼费用交纳办法, State
//! Council Order 481), as far as the Measures fix it nationally.

use super::law::Article;
use super::money::Fen;
use super::vocabulary::vocabulary;

vocabulary! {
    /// What a claim is about, as far as the fee depends on it (诉讼费用交纳办法 art 13).
    pub enum ClaimKind {
        /// Property, by the claimed sum: art 13(1).
        Property => "property",
        /// Divorce, personality rights and such, within ranges that provinces set: art 13(2).
        NonProperty => "non-property",
        /// A labour dispute: art 13(4).
        Labour => "labour",
        /// An administrative case: art 13(5).
        Administrative => "administrative",
        /// An administrative case about a trademark or patent, or a maritime one: art 13(5).
        IntellectualPropertyAdministrative => "intellectual-property-administrative",
        /// Anything else.
        Other => "other",
    }
}

/// The fee that the Measures give for a claim, or nothing where they leave it to a province or where the claimed
/// sum is needed and missing. A difference from the stated fee is a warning, not a refusal.
pub fn expected_fee(kind: ClaimKind, claimed: Option<Fen>, halving: Option<Halving>) -> Option<Fen> {
    let full = match kind {
        ClaimKind::Property => property_claim_fee(claimed?),
        ClaimKind::Labour => LABOUR_FEE,
        ClaimKind::Administrative => ADMINISTRATIVE_FEE,
        ClaimKind::IntellectualPropertyAdministrative => INTELLECTUAL_PROPERTY_ADMINISTRATIVE_FEE,
        ClaimKind::NonProperty | ClaimKind::Other => return None,
    };
    Some(if halving.is_some() { halved(full) } else { full })
}

/// The fee on a property claim (art 13(1)): 50 yuan, and on what goes beyond 10,000 yuan a rate that falls
/// from step to step. Summed exactly, then half a fen is rounded up, once.
pub fn property_claim_fee(claimed: Fen) -> Fen {
    let claimed = claimed.get();
    let mut whole_fen = FIRST_STEP_FEE.get();
    let mut thousandths = 0;
    for (index, (above, permille)) in LADDER.iter().enumerate() {
        let up_to = LADDER.get(index + 1).map_or(i64::MAX, |(next, _)| next.get());
        let on_this_step = claimed.min(up_to).saturating_sub(above.get()).max(0);
        // Split, so that no product can overflow.
        whole_fen += on_this_step / 1000 * permille;
        thousandths += on_this_step % 1000 * permille;
    }
    Fen::at_least_zero(whole_fen + (thousandths + 500) / 1000)
}

vocabulary! {
    /// Why only half of the fee is asked (诉讼费用交纳办法 arts 15, 16, 18). It is halved once, whatever comes together.
    pub enum Halving {
        /// Ended by mediation or withdrawal: art 15.
        MediationOrWithdrawal => "mediation-or-withdrawal",
        /// Tried in summary procedure: art 16.
        SummaryProcedure => "summary-procedure",
        /// A counterclaim heard together with the claim: art 18.
        MergedCounterclaim => "merged-counterclaim",
    }
}

impl Halving {
    /// The article.
    pub const fn article(self) -> Article {
        Article::court_fee_measures(match self {
            Self::MediationOrWithdrawal => "15",
            Self::SummaryProcedure => "16",
            Self::MergedCounterclaim => "18",
        })
    }
}

/// Half of a fee, half a fen rounded up: mediation or withdrawal (art 15), summary procedure (art 16),
/// counterclaim heard together (art 18).
pub fn halved(fee: Fen) -> Fen {
    Fen::at_least_zero(fee.get() / 2 + fee.get() % 2)
}

/// A labour dispute, each: art 13(4).
pub const LABOUR_FEE: Fen = Fen::yuan(10);
/// An administrative case, each: art 13(5).
pub const ADMINISTRATIVE_FEE: Fen = Fen::yuan(50);
/// An administrative case about a trademark or patent, or a maritime one, each: art 13(5).
pub const INTELLECTUAL_PROPERTY_ADMINISTRATIVE_FEE: Fen = Fen::yuan(100);

/// Claims up to 10,000 yuan: art 13(1)1.
const FIRST_STEP_FEE: Fen = Fen::yuan(50);

/// The sum above which a rate begins, and the rate in thousandths: art 13(1)2 to 10.
const LADDER: [(Fen, i64); 9] = [
    (Fen::yuan(10_000), 25),
    (Fen::yuan(100_000), 20),
    (Fen::yuan(200_000), 15),
    (Fen::yuan(500_000), 10),
    (Fen::yuan(1_000_000), 9),
    (Fen::yuan(2_000_000), 8),
    (Fen::yuan(5_000_000), 7),
    (Fen::yuan(10_000_000), 6),
    (Fen::yuan(20_000_000), 5),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_ladder_meets_its_check_values() {
        let steps = [
            (0, 50),
            (10_000, 50),
            (100_000, 2_300),
            (200_000, 4_300),
            (500_000, 8_800),
            (1_000_000, 13_800),
            (2_000_000, 22_800),
            (5_000_000, 46_800),
            (10_000_000, 81_800),
            (20_000_000, 141_800),
            (30_000_000, 191_800),
        ];
        for (claimed, fee) in steps {
            assert_eq!(property_claim_fee(Fen::yuan(claimed)), Fen::yuan(fee), "{claimed}");
        }
    }

    #[test]
    fn half_a_fen_of_the_ladder_is_rounded_up_once() {
        let fee = |fen| property_claim_fee(Fen::new(fen).unwrap()).get();
        assert_eq!(fee(1_000_019), 5_000);
        assert_eq!(fee(1_000_020), 5_001);
        // Just above 100,000 yuan a fen adds 0.02 fen, so 25 fen add half a fen.
        assert_eq!(fee(10_000_024), 230_000);
        assert_eq!(fee(10_000_025), 230_001);
    }

    #[test]
    fn the_largest_claim_does_not_overflow() {
        assert!(property_claim_fee(Fen::new(i64::MAX).unwrap()).get() > i64::MAX / 201);
    }

    #[test]
    fn fixed_fees_are_fixed_and_provincial_ranges_are_unknown() {
        let sum = Some(Fen::yuan(100_000));
        let expected_fee = |kind, claimed| expected_fee(kind, claimed, None);
        assert_eq!(expected_fee(ClaimKind::Property, sum), Some(Fen::yuan(2_300)));
        assert_eq!(expected_fee(ClaimKind::Property, None), None);
        assert_eq!(expected_fee(ClaimKind::Labour, sum), Some(Fen::yuan(10)));
        assert_eq!(expected_fee(ClaimKind::Administrative, None), Some(Fen::yuan(50)));
        assert_eq!(expected_fee(ClaimKind::IntellectualPropertyAdministrative, None), Some(Fen::yuan(100)));
        assert_eq!(expected_fee(ClaimKind::NonProperty, sum), None);
        assert_eq!(expected_fee(ClaimKind::Other, sum), None);
    }

    #[test]
    fn half_of_an_odd_fee_is_rounded_up() {
        assert_eq!(halved(Fen::new(5_001).unwrap()), Fen::new(2_501).unwrap());
        assert_eq!(halved(LABOUR_FEE), Fen::yuan(5));
    }

    #[test]
    fn every_halving_halves_once_and_names_its_article() {
        let sum = Some(Fen::yuan(100_000));
        for halving in Halving::ALL {
            let fee = |kind, claimed| expected_fee(kind, claimed, Some(*halving));
            assert_eq!(fee(ClaimKind::Property, sum), Some(Fen::yuan(1_150)));
            assert_eq!(fee(ClaimKind::Labour, None), Some(Fen::yuan(5)));
            assert_eq!(fee(ClaimKind::NonProperty, sum), None);
        }
        let articles: Vec<_> = Halving::ALL.iter().map(|halving| halving.article().number()).collect();
        assert_eq!(articles, [Some("15"), Some("16"), Some("18")]);
    }

    proptest! {
        #[test]
        fn a_larger_claim_never_costs_less(a in 0..=10_000_000_000_i64, more in 0..=10_000_000_000_i64) {
            let fee = |fen| property_claim_fee(Fen::new(fen).unwrap());
            prop_assert!(fee(a) <= fee(a + more));
        }

        #[test]
        fn the_ladder_has_no_jump_at_a_step(step in 0..LADDER.len(), less in 0..100_000_i64, more in 0..100_000_i64) {
            let (at, _) = LADDER[step];
            let fee = |fen| property_claim_fee(Fen::new(fen).unwrap()).get();
            // The dearest rate is 2.5%; half a fen is rounded on either side.
            let rise = fee(at.get() + more) - fee(at.get() - less);
            prop_assert!((0..=(less + more) * 25 / 1000 + 1).contains(&rise), "{rise}");
        }

        #[test]
        fn half_is_never_less_than_half(fen in 0..=i64::MAX) {
            let half = halved(Fen::new(fen).unwrap()).get();
            prop_assert!(half - fen / 2 == fen % 2);
        }

        #[test]
        fn any_claim_can_be_priced(fen in 0..=i64::MAX) {
            prop_assert!(property_claim_fee(Fen::new(fen).unwrap()) >= FIRST_STEP_FEE);
        }
    }
}
