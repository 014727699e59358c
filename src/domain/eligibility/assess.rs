//! Trying the rules in the law's order.

use jiff::civil::Date;

use super::{
    Case, Due, GroupClaim, GroupRule, Input, Outcome, Programme, Provenance, Review, RulesInForce, Text,
    Tried, UrgentGround, Verdict,
};
use crate::domain::calendar::SHANGHAI;
use crate::domain::clocks::{Clocks, Occasion};
use crate::domain::law::Article;
use crate::domain::vocabulary::vocabulary;

/// Below so many days to the end of a period, aid comes first (法律援助法 art 44(1)).
const URGENT_BELOW_DAYS: i32 = 7;

vocabulary! {
    /// How the household stands in a programme, as far as a register said.
    pub enum Standing {
        /// It draws the programme now.
        Active => "ACTIVE",
        /// It does not.
        NotActive => "NOT_ACTIVE",
        /// The register was not asked, is down, or gave no clear answer.
        Unknown => "UNKNOWN",
    }
}

/// What the registers said; a programme that is not named is [`Standing::Unknown`].
#[derive(Clone, Debug, Default)]
pub struct Registers(pub Vec<(Programme, Standing)>);

impl Registers {
    fn standing(&self, programme: Programme) -> Standing {
        let of = |(of, _): &&(Programme, Standing)| *of == programme;
        self.0.iter().find(of).map_or(Standing::Unknown, |(_, standing)| *standing)
    }
}

/// A recommendation with its reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assessment {
    /// What is recommended.
    pub outcome: Outcome,
    /// The rules tried, in order, up to those that decided.
    pub tried: Vec<Tried>,
    /// What is to be done, and until when.
    pub due: Vec<Due>,
}

/// The programmes about which a register must be asked before the case can be assessed: none where an earlier rule
/// decides, so that nobody is looked up without need.
pub fn programmes_to_ask(case: &Case, rules: &RulesInForce<'_>) -> Vec<Programme> {
    let mut tried = Vec::new();
    if without_registers(case, rules, &mut tried).is_some() {
        return Vec::new();
    }
    let qualifies = |claimed: &Programme| rules.programmes.iter().any(|rule| rule.programme == *claimed);
    case.claimed_programmes().into_iter().filter(qualifies).collect()
}

/// Assesses a case by the rules in force on the day of application and by what the registers said. `clocks` say until
/// when the centre decides.
pub fn assess(case: &Case, rules: &RulesInForce<'_>, registers: &Registers, clocks: &Clocks) -> Assessment {
    let mut tried = Vec::new();
    let outcome = without_registers(case, rules, &mut tried)
        .or_else(|| passport(case, rules, registers, &mut tried))
        .or_else(|| line(case, rules, &mut tried))
        .unwrap_or_else(|| undertaking(case, &mut tried));
    Assessment { outcome, tried, due: due(case, outcome, decided_by(case, clocks)) }
}

/// The rules that come before the registers.
fn without_registers(case: &Case, rules: &RulesInForce<'_>, tried: &mut Vec<Tried>) -> Option<Outcome> {
    matter(case, tried).or_else(|| urgency(case, tried)).or_else(|| exempt_groups(case, rules, tried))
}

/// Covered (31), or free of limit (32); against an effective judgment only after its review was ordered (33).
fn matter(case: &Case, tried: &mut Vec<Tried>) -> Option<Outcome> {
    let matter = case.matter;
    let inputs = vec![input("matter", matter)];
    if matter == super::Matter::Other {
        tried.push(by_law("matter", matter.article(), Verdict::Unknown, inputs, Some(MATTER_NOT_LISTED)));
        return Some(Outcome::ReferToPerson);
    }
    tried.push(by_law("matter", matter.article(), Verdict::Met, inputs, None));
    if let Some(review) = case.review {
        let waits = review == Review::Neither;
        let verdict = if waits { Verdict::NotMet } else { Verdict::Met };
        let inputs = vec![input("review", review)];
        tried.push(by_law(
            "review",
            Article::legal_aid_law("33"),
            verdict,
            inputs,
            waits.then_some(NO_REVIEW),
        ));
        if waits {
            return Some(Outcome::ReferToPerson);
        }
    }
    matter.is_free_of_limit().then_some(Outcome::NoMeansTest)
}

/// Aid first (44).
fn urgency(case: &Case, tried: &mut Vec<Tried>) -> Option<Outcome> {
    let Some(urgency) = case.urgency else {
        let inputs = vec![input("urgency", "none claimed")];
        tried.push(by_law(
            "urgency",
            Article::legal_aid_law("44"),
            Verdict::NotMet,
            inputs,
            Some(NOT_URGENT),
        ));
        return None;
    };
    let mut inputs = vec![input("urgency", urgency.ground)];
    let (article, verdict) = match urgency.ground {
        UrgentGround::Deadline => {
            let left = urgency.ends_on.and_then(|day| (day - case.applied_on).get_days().into());
            let verdict = match left {
                Some(left) if (0..URGENT_BELOW_DAYS).contains(&left) => Verdict::Met,
                Some(_) => Verdict::NotMet,
                None => Verdict::Unknown,
            };
            inputs.extend(left.map(|left| input("days_left", left)));
            ("44(1)", verdict)
        }
        UrgentGround::Preservation => ("44(2)", Verdict::Met),
        UrgentGround::Other => ("44(3)", Verdict::Unknown),
    };
    let met = verdict == Verdict::Met;
    tried.push(by_law(
        "urgency",
        Article::legal_aid_law(article),
        verdict,
        inputs,
        (!met).then_some(NOT_URGENT),
    ));
    met.then_some(Outcome::Provisional)
}

/// Groups whose hardship is not checked (42 and regional additions).
fn exempt_groups(case: &Case, rules: &RulesInForce<'_>, tried: &mut Vec<Tried>) -> Option<Outcome> {
    let mut outcome = None;
    for claim in &case.groups {
        let mut found = false;
        for rule in rules.groups.iter().filter(|rule| rule.groups.contains(&claim.group)) {
            found = true;
            let (verdict, would_change) = judge_group(case, claim, rule);
            let inputs = vec![
                input("group", claim.group),
                input("matter", case.matter),
                input("proven", claim.is_proven),
                input("no_fixed_livelihood", claim.has_no_fixed_livelihood),
            ];
            let id = format!("exempt-group/{}", rule.id);
            tried.push(by_set(id, &rule.about, verdict, inputs, would_change));
            if verdict == Verdict::Met {
                let this = if claim.is_proven { Outcome::NoMeansTest } else { Outcome::Provisional };
                // The better of the two is declared first.
                outcome = Some(outcome.map_or(this, |other: Outcome| other.min(this)));
            }
        }
        if !found {
            let inputs = vec![input("group", claim.group)];
            let article = Article::legal_aid_law("42");
            tried.push(by_law("exempt-group", article, Verdict::NotMet, inputs, Some(NO_GROUP)));
        }
    }
    if case.groups.is_empty() {
        let inputs = vec![input("group", "none claimed")];
        let article = Article::legal_aid_law("42");
        tried.push(by_law("exempt-group", article, Verdict::NotMet, inputs, Some(NO_GROUP)));
    }
    outcome
}

fn judge_group(case: &Case, claim: &GroupClaim, rule: &GroupRule) -> (Verdict, Option<Text>) {
    if !rule.matters.is_empty() && !rule.matters.contains(&case.matter) {
        (Verdict::NotMet, Some(OTHER_MATTER))
    } else if rule.no_fixed_livelihood && !claim.has_no_fixed_livelihood {
        (Verdict::NotMet, Some(FIXED_LIVELIHOOD))
    } else if claim.is_proven || rule.papers_later {
        (Verdict::Met, None)
    } else {
        (Verdict::NotMet, Some(NO_PROOF))
    }
}

/// Registers that say the household draws a qualifying programme (41, 42).
fn passport(
    case: &Case,
    rules: &RulesInForce<'_>,
    registers: &Registers,
    tried: &mut Vec<Tried>,
) -> Option<Outcome> {
    let claimed = case.claimed_programmes();
    if claimed.is_empty() {
        let inputs = vec![input("programme", "none claimed")];
        let article = Article::legal_aid_law("41");
        tried.push(by_law("programme", article, Verdict::NotMet, inputs, Some(NO_PROGRAMME)));
    }
    let mut outcome = None;
    for programme in claimed {
        let Some(rule) = rules.programmes.iter().find(|rule| rule.programme == programme) else {
            let inputs = vec![input("programme", programme)];
            let article = Article::legal_aid_law("41");
            tried.push(by_law("programme", article, Verdict::NotMet, inputs, Some(NOT_QUALIFYING)));
            continue;
        };
        let standing = registers.standing(programme);
        let inputs = vec![input("programme", programme), input("register", standing)];
        let (verdict, would_change) = match standing {
            Standing::Active => (Verdict::Met, None),
            Standing::NotActive => (Verdict::NotMet, Some(NOT_ACTIVE)),
            Standing::Unknown => (Verdict::Unknown, Some(REGISTER_UNKNOWN)),
        };
        tried.push(by_set(format!("programme/{programme}"), &rule.about, verdict, inputs, would_change));
        if verdict == Verdict::Met {
            outcome = Some(Outcome::Passported);
        }
    }
    outcome
}

/// The declared income per head against the region's line (34).
fn line(case: &Case, rules: &RulesInForce<'_>, tried: &mut Vec<Tried>) -> Option<Outcome> {
    let article = Article::legal_aid_law("34");
    let Some(line) = rules.line else {
        let inputs = vec![input("line_fen", "unknown")];
        tried.push(by_law("income-line", article, Verdict::Unknown, inputs, Some(NO_LINE)));
        return None;
    };
    let mut inputs = vec![
        input("line_fen", line.amount.get()),
        input("base", line.base.base),
        input("base_fen", line.base.amount.get()),
    ];
    let (verdict, would_change) = match case.income {
        None => {
            inputs.push(input("income", "not declared"));
            (Verdict::Unknown, Some(NO_INCOME))
        }
        Some(income) => {
            inputs.push(input("household_monthly_income_fen", income.monthly.get()));
            inputs.push(input("household_members", income.members));
            if income.is_within(line.amount) {
                (Verdict::Met, None)
            } else {
                (Verdict::NotMet, Some(ABOVE_LINE))
            }
        }
    };
    tried.push(by_set("income-line".to_owned(), &line.rule.about, verdict, inputs, would_change));
    (verdict == Verdict::Met).then_some(Outcome::WithinLine)
}

/// Nothing has established hardship. Where it is open, an undertaking can (41); where the declared income is above the
/// line, a person looks at what else there is.
fn undertaking(case: &Case, tried: &mut Vec<Tried>) -> Outcome {
    let above_line =
        tried.iter().any(|tried| tried.rule == "income-line" && tried.verdict == Verdict::NotMet);
    let declared = if case.income.is_some() { "declared" } else { "not declared" };
    let (verdict, text, outcome) = if above_line {
        (Verdict::NotMet, ABOVE_LINE, Outcome::ReferToPerson)
    } else {
        (Verdict::Unknown, UNDERTAKE, Outcome::UndertakingNeeded)
    };
    let inputs = vec![input("income", declared)];
    tried.push(by_law("undertaking", Article::legal_aid_law("41"), verdict, inputs, Some(text)));
    outcome
}

/// The last day for the decision (43): its length, in days or working days, is the region's.
fn decided_by(case: &Case, clocks: &Clocks) -> Option<Date> {
    let received = SHANGHAI.to_timestamp(case.applied_on.at(12, 0, 0, 0)).ok()?;
    let started = clocks.started_by_event(Occasion::AidApplication, case.region, received);
    started.iter().filter_map(|clock| clock.due.on).min()
}

fn due(case: &Case, outcome: Outcome, decided_by: Option<Date>) -> Vec<Due> {
    // Whoever looks does so while there is time.
    let deadline = case.urgency.and_then(|urgency| urgency.ends_on).filter(|day| *day >= case.applied_on);
    let looked_at_by = [deadline, decided_by].into_iter().flatten().min();
    let decision =
        Due { code: "DECISION", text: DECIDE, article: Article::legal_aid_law("43"), by: decided_by };
    let own = match outcome {
        Outcome::NoMeansTest | Outcome::Passported => None,
        Outcome::Provisional => {
            Some(Due { code: "PAPERS", text: PAPERS, article: Article::legal_aid_law("44"), by: None })
        }
        Outcome::WithinLine | Outcome::UndertakingNeeded => Some(Due {
            code: "UNDERTAKING",
            text: UNDERTAKE,
            article: Article::legal_aid_law("41"),
            by: decided_by,
        }),
        Outcome::ReferToPerson => Some(Due {
            code: "PERSON",
            text: PERSON,
            article: Article::legal_aid_law("43"),
            by: looked_at_by,
        }),
    };
    own.into_iter().chain([decision]).collect()
}

fn input(name: &'static str, value: impl std::fmt::Display) -> Input {
    Input { name, value: value.to_string() }
}

fn by_law(
    rule: &str,
    article: Article,
    verdict: Verdict,
    inputs: Vec<Input>,
    would_change: Option<Text>,
) -> Tried {
    let article = article.to_string();
    Tried { rule: rule.to_owned(), article, verdict, inputs, would_change, source: None, mark: None }
}

fn by_set(
    rule: String,
    about: &Provenance,
    verdict: Verdict,
    inputs: Vec<Input>,
    would_change: Option<Text>,
) -> Tried {
    let (source, mark) = (Some(about.source.clone()), Some(about.mark));
    Tried { rule, article: about.basis.to_string(), verdict, inputs, would_change, source, mark }
}

const MATTER_NOT_LISTED: Text = Text {
    en: "a person finds that articles 31 and 32 or another law cover the matter; if it is urgent, aid may come first (art 44)",
    zh: "由工作人员认定该事项属于第三十一条、第三十二条或者其他法律规定的范围；情形紧急的可先行提供法律援助（第四十四条）",
};
const NO_REVIEW: Text = Text {
    en: "the court orders a retrial, or the procuratorate protests",
    zh: "人民法院决定、裁定再审或者人民检察院提出抗诉",
};
const NOT_URGENT: Text = Text {
    en: "a legal period ends in less than seven days, or preservation or advance enforcement is needed at once; a person may recognise other cases",
    zh: "距法定时效或者期限届满不足七日，或者需要立即申请保全、先予执行；其他情形由工作人员认定",
};
const NO_GROUP: Text = Text {
    en: "proof that the applicant belongs to a group whose hardship is not checked",
    zh: "提供材料证明属于免予核查经济困难状况的人员",
};
const OTHER_MATTER: Text = Text {
    en: "the group is exempt in other matters only; the next rules apply",
    zh: "该类人员仅就特定事项免予核查，继续适用其他规则",
};
const FIXED_LIVELIHOOD: Text = Text {
    en: "proof that the applicant has no fixed livelihood",
    zh: "提供无固定生活来源的证明材料",
};
const NO_PROOF: Text =
    Text { en: "a document that proves the group", zh: "提供证明属于该类人员的材料" };
const NO_PROGRAMME: Text = Text {
    en: "the household draws a programme whose recipients are not checked again",
    zh: "家庭正在享受可免予核查的救助项目",
};
const NOT_QUALIFYING: Text = Text {
    en: "the region adds the programme to those whose recipients are not checked again",
    zh: "当地将该项目列为免予核查的救助项目",
};
const NOT_ACTIVE: Text = Text {
    en: "the register shows the programme as active, or a valid certificate is produced",
    zh: "登记系统显示正在享受该项目，或者提供有效证件",
};
const REGISTER_UNKNOWN: Text = Text {
    en: "the register answers clearly: ask again later, or take a valid certificate",
    zh: "登记系统作出明确答复：可稍后重新查询，或者查验有效证件",
};
const NO_LINE: Text = Text {
    en: "a rule set with the region's line and base figure in force on the day of application",
    zh: "载入申请之日有效的当地经济困难标准及其基数",
};
const NO_INCOME: Text =
    Text { en: "the household declares its income and members", zh: "申报家庭收入和人口" };
const ABOVE_LINE: Text = Text {
    en: "the declared income per head is at or below the line; else a person looks at what else weighs",
    zh: "申报的人均月收入不高于当地标准；否则由工作人员综合审查",
};
const UNDERTAKE: Text = Text {
    en: "the applicant signs an undertaking that the declared circumstances are true",
    zh: "申请人签署个人诚信承诺书，承诺所述经济状况属实",
};
const DECIDE: Text = Text {
    en: "the centre decides the application; a refusal is a person's, in writing and with reasons",
    zh: "法律援助机构作出决定；不予援助须由工作人员作出并书面说明理由",
};
const PAPERS: Text = Text {
    en: "the applicant brings the papers promptly; aid does not wait for them",
    zh: "受援人应当及时补办手续、补充材料；先行提供法律援助",
};
const PERSON: Text = Text { en: "a person looks at the case", zh: "由工作人员审查" };

#[cfg(test)]
mod tests;
