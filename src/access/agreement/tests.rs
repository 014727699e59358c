//! Each condition by itself, and how a denial tells of several agreements.

use jiff::civil::date;

use super::*;
use crate::access::{Directory, StaffMember};
use crate::domain::agency::CreditCode;

const CENTRE: &str = "11320000MB151840XJ";
const COURT: &str = "91350100M000100Y43";

/// A directory of a centre and a court, with one agreement that `narrow` narrows.
fn directory(narrow: impl FnOnce(&mut Agreement)) -> Directory {
    let text = format!(
        "[[agency]]\ncode = \"{CENTRE}\"\nname = \"c\"\nkind = \"legal-aid-centre\"\nregion = \"331004\"\n\
         [[agency]]\ncode = \"{COURT}\"\nname = \"k\"\nkind = \"court\"\nregion = \"331004\"\n"
    );
    let mut file: crate::access::DirectoryFile = toml::from_str(&text).unwrap();
    file.agreements.push(agreement("A", narrow));
    Directory::build(file).unwrap()
}

fn agreement(id: &str, narrow: impl FnOnce(&mut Agreement)) -> Agreement {
    let centre = CreditCode::parse(CENTRE).unwrap();
    let mut agreement = Agreement::new(id, 1, centre, (date(2026, 1, 1), date(2026, 12, 31)));
    agreement.methods = vec![Method::SubmitExchange];
    agreement.counterparts = vec![CreditCode::parse(COURT).unwrap().into()];
    agreement.purposes = vec![PurposeCode::parse("FEE_WAIVER").unwrap()];
    narrow(&mut agreement);
    agreement
}

/// What is decided of a submission of the centre to the court, as `ask` changes it.
fn decide(directory: &Directory, ask: impl for<'q> FnOnce(&mut Question<'q>)) -> Result<(), Denial> {
    let (centre, court) = (CreditCode::parse(CENTRE).unwrap(), CreditCode::parse(COURT).unwrap());
    let purpose = PurposeCode::parse("FEE_WAIVER").unwrap();
    let (unit, operator) = (UnitCode::parse("main").unwrap(), "c-01".parse().unwrap());
    let basis = [LegalBasis::parse("《法律援助法》", "53").unwrap()];
    let mut question = Question {
        unit: Some(&unit),
        operator: Some(&operator),
        kind: Some(Kind::FeeWaiver),
        counterpart: Some(&court),
        legal_basis: Some(&basis),
        programmes: &[Programme::Destitute],
        ..Question::new(&centre, Method::SubmitExchange, Some(&purpose), date(2026, 6, 1))
    };
    ask(&mut question);
    directory.decide(&question).map(drop)
}

#[test]
fn each_condition_denies_by_itself_and_lets_pass_what_fits() {
    let law = |article| vec![LegalBasis::parse("法律援助法", article).unwrap()];
    let fits: [fn(&mut Agreement); 5] = [
        |of| of.unit = Some(UnitCode::parse("main").unwrap()),
        |of| of.kinds = vec![Kind::JudicialRelief, Kind::FeeWaiver],
        |of| of.legal_basis = vec![LegalBasis::parse("法律援助法", "53").unwrap()],
        |of| of.programmes = Some(vec![Programme::Destitute]),
        |of| {
            of.counterparts = vec![Party::of_kind(
                crate::domain::agency::AgencyKind::Court,
                crate::domain::region::RegionCode::parse("330000").unwrap(),
            )];
        },
    ];
    for narrow in fits {
        decide(&directory(narrow), |_| ()).unwrap();
    }
    let denied = |narrow: &dyn Fn(&mut Agreement)| {
        decide(&directory(|of| narrow(of)), |_| ()).unwrap_err().condition()
    };
    assert_eq!(denied(&|of| of.methods.clear()), Condition::Method);
    assert_eq!(denied(&|of| of.unit = Some(UnitCode::parse("night").unwrap())), Condition::Unit);
    assert_eq!(denied(&|of| of.until = date(2026, 5, 31)), Condition::InForce);
    assert_eq!(denied(&|of| of.from = date(2026, 6, 2)), Condition::InForce);
    assert_eq!(denied(&|of| of.kinds = vec![Kind::JudicialRelief]), Condition::Kind);
    assert_eq!(denied(&|of| of.purposes.clear()), Condition::Purpose);
    assert_eq!(denied(&|of| of.legal_basis = law("41")), Condition::LegalBasis);
    assert_eq!(denied(&|of| of.programmes = Some(Vec::new())), Condition::Programme);
    assert_eq!(denied(&|of| of.operators = OperatorTerms::Listed), Condition::OperatorListed);
    assert_eq!(denied(&|of| of.counterparts.clear()), Condition::Counterpart);
}

#[test]
fn what_is_not_known_yet_stands_in_no_ones_way_and_who_acts_must_be_known_in_the_end() {
    let narrow = |of: &mut Agreement| {
        of.unit = Some(UnitCode::parse("night").unwrap());
        of.kinds = vec![Kind::JudicialRelief];
        of.legal_basis = vec![LegalBasis::parse("法律援助法", "41").unwrap()];
        of.operators = OperatorTerms::Listed;
        of.counterparts.clear();
    };
    decide(&directory(narrow), |question| {
        *question = Question {
            unit: None,
            operator: None,
            kind: None,
            counterpart: None,
            purpose: None,
            legal_basis: None,
            programmes: &[],
            is_early: true,
            ..*question
        };
    })
    .unwrap();
    let nobody = |narrow: fn(&mut Agreement)| {
        let decided = decide(&directory(narrow), |question| {
            question.unit = None;
            question.operator = None;
        });
        decided.map_err(|denial| denial.condition())
    };
    assert_eq!(nobody(|of| of.unit = UnitCode::parse("main").ok()), Err(Condition::Unit));
    assert_eq!(nobody(|of| of.operators = OperatorTerms::Listed), Err(Condition::OperatorListed));
    assert_eq!(nobody(|_| ()), Ok(()));
}

#[test]
fn a_denial_tells_first_of_the_agreement_that_came_nearest() {
    let directory = directory(|of| of.until = date(2026, 5, 31));
    let more = ["B", "C"].map(|id| {
        agreement(id, |of| match id {
            "B" => of.counterparts.clear(),
            _ => of.purposes.clear(),
        })
    });
    let all = directory.agreements().iter().map(|of| Agreement::clone(of)).chain(more);
    let directory = directory.with_agreements(Agreements::new(all));
    let denial = decide(&directory, |_| ()).unwrap_err();
    let told: Vec<_> = denial.considered().collect();
    assert_eq!(told, ["B/1 COUNTERPART_NOT_AGREED", "C/1 PURPOSE_NOT_AGREED", "A/1 AGREEMENT_NOT_IN_FORCE"]);
    assert_eq!(denial.to_string(), "the agreement does not allow this counterpart: B, version 1");
    assert_eq!(denial.description_zh(), "协议不允许此对方机构：B（第1版）");
}

#[test]
fn of_several_versions_the_highest_decides_and_one_without_a_quota_is_used_first() {
    let later = Agreement { version: 2, ..agreement("A", |of| of.purposes.clear()) };
    let first = directory(|_| ());
    let all = [agreement("A", |_| ()), later.clone()];
    assert!(decide(&first.with_agreements(Agreements::new(all)), |_| ()).is_err());

    let counted = agreement("A", |of| of.quota = Some(QuotaTerms { per_day: Some(1), ..Default::default() }));
    let directory = first.with_agreements(Agreements::new([counted, agreement("B", |_| ())]));
    let (centre, purpose) = (CreditCode::parse(CENTRE).unwrap(), PurposeCode::parse("FEE_WAIVER").unwrap());
    let question = Question::new(&centre, Method::SubmitExchange, Some(&purpose), date(2026, 6, 1));
    assert_eq!(directory.decide(&question).unwrap().id, "B");
    assert_eq!(directory.decide_but_for(&question, &["B".to_owned()]).unwrap().id, "A");
}

#[test]
fn units_and_operators_have_their_days_and_stand_on_the_list_once() {
    let member = || StaffMember {
        agency: CreditCode::parse(CENTRE).unwrap(),
        unit: UnitCode::parse("main").unwrap(),
        staff_number: "c-01".parse().unwrap(),
        from: Some(date(2026, 6, 1)),
        until: Some(date(2026, 6, 1)),
    };
    let text = format!(
        "[[agency]]\ncode = \"{CENTRE}\"\nname = \"c\"\nkind = \"legal-aid-centre\"\nregion = \"331004\"\n\
         [[unit]]\nagency = \"{CENTRE}\"\ncode = \"main\"\nuntil = 2026-06-02\n\
         [[operator]]\nagency = \"{CENTRE}\"\nunit = \"main\"\nstaff_number = \"c-02\"\n"
    );
    let mut file: crate::access::DirectoryFile = toml::from_str(&text).unwrap();
    file.operators.push(member());
    file.agreements.push(agreement("A", |of| {
        of.operators = OperatorTerms::Listed;
        of.counterparts.clear();
    }));
    let directory = Directory::build(file.clone()).unwrap();
    let on = |day| {
        let decided = decide(&directory, |question| {
            question.counterpart = None;
            question.on = day;
        });
        decided.map_err(|denial| denial.condition())
    };
    assert_eq!(on(date(2026, 6, 1)), Ok(()));
    assert_eq!(on(date(2026, 6, 2)), Err(Condition::OperatorValid));
    assert_eq!(on(date(2026, 5, 31)), Err(Condition::OperatorValid));
    file.operators.push(member());
    assert!(Directory::build(file).unwrap_err().to_string().contains("appears twice"));
}
