//! Cooperation request: one centre asks another to act in its region (法律援助法 art 51).

use jiff::civil::Date;

use super::agency::CreditCode;
use super::law::Article;
use super::violation::Violations;
use super::vocabulary::vocabulary;

vocabulary! {
    /// What a centre may ask another to do.
    pub enum Task {
        /// Take an application and pass it on.
        TakeApplication => "TAKE_APPLICATION",
        /// Investigate and gather evidence.
        Investigate => "INVESTIGATE",
        /// Serve papers.
        Serve => "SERVE",
        /// Interview a person.
        Interview => "INTERVIEW",
    }
}

/// The terms of a request, as far as each could be read: what is unreadable is `None` and has its own violation
/// already, and the rules between the others still hold.
#[derive(Clone, Debug, Default)]
pub struct CooperationTerms {
    /// What is to be done.
    pub task: Option<Task>,
    /// Whether a person is given.
    pub has_person: bool,
    /// Whether a place is given.
    pub has_place: bool,
    /// Whether papers come with the request.
    pub has_papers: bool,
    /// Until when.
    pub due_on: Option<Date>,
    /// Whether a decision to give aid is given.
    pub has_aid_decision: bool,
    /// The centre that decided.
    pub deciding_centre: Option<CreditCode>,
}

impl CooperationTerms {
    /// Checks the rules between fields, against the requesting centre and the day.
    pub fn check(&self, sender: &CreditCode, today: Date, violations: &mut Violations) {
        if let Some(task) = self.task {
            self.check_task(task, violations);
        }
        if self.due_on.is_some_and(|due| due < today) {
            violations.add("due_on", "NOT_IN_THE_PAST", "must not be in the past", "办理期限不得早于今日");
        }
        if self.deciding_centre.is_some_and(|centre| centre != *sender) {
            violations.add(
                "aid_decision.centre",
                "DECISION_IS_THE_SENDERS",
                "the decision is that of the centre which asks for help",
                "法律援助决定须为请求协作的法律援助机构作出",
            );
        }
    }

    fn check_task(&self, task: Task, violations: &mut Violations) {
        let article = Article::legal_aid_law("51");
        if task != Task::Investigate && !self.has_person {
            violations.add_by_article(
                "person",
                "REQUIRED",
                "only an investigation may go without the person concerned",
                "除调查取证外，须填写相关当事人",
                article,
            );
        }
        if task != Task::TakeApplication && !self.has_place {
            violations.add_by_article(
                "place",
                "REQUIRED",
                "all but taking an application needs the place where it is to be done",
                "除代为接收申请外，须填写办理地点",
                article,
            );
        }
        if task == Task::Serve && !self.has_papers {
            violations.add_by_article(
                "content",
                "SERVICE_NEEDS_PAPERS",
                "papers to be served are the envelope's attachments, at least one",
                "请求代为送达的，须以附件提供待送达文书",
                article,
            );
        }
        if task == Task::TakeApplication && self.has_aid_decision {
            violations.add_by_article(
                "aid_decision",
                "NO_DECISION_BEFORE_THE_APPLICATION",
                "there is no decision before the application is taken",
                "代为接收申请的，尚无法律援助决定",
                Article::legal_aid_law("43"),
            );
        }
    }
}

vocabulary! {
    /// How far a request was done.
    pub enum Outcome {
        /// Done.
        Done => "DONE",
        /// Done in part.
        PartlyDone => "PARTLY_DONE",
        /// Not done.
        NotDone => "NOT_DONE",
    }
}

/// The terms of a result, as far as each could be read.
#[derive(Clone, Debug, Default)]
pub struct ResultTerms {
    /// How far it was done.
    pub outcome: Option<Outcome>,
    /// Whether reasons are given.
    pub has_reasons: bool,
}

impl ResultTerms {
    /// Checks the rules between fields.
    pub fn check(&self, violations: &mut Violations) {
        if self.outcome.is_some_and(|outcome| outcome != Outcome::Done) && !self.has_reasons {
            violations.add_by_article(
                "reasons",
                "REASONS_UNLESS_DONE",
                "what was not done, or not all, needs reasons",
                "未完成或者部分完成的，须说明理由",
                Article::legal_aid_law("51"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TODAY: Date = Date::constant(2026, 3, 5);

    fn code(text: &str) -> CreditCode {
        CreditCode::parse(text).unwrap()
    }

    fn sender() -> CreditCode {
        code("91110000600037341L")
    }

    /// Has everything that any task needs, due today.
    fn full(task: Task) -> CooperationTerms {
        CooperationTerms {
            task: Some(task),
            has_person: true,
            has_place: true,
            has_papers: true,
            due_on: Some(TODAY),
            has_aid_decision: task != Task::TakeApplication,
            deciding_centre: Some(sender()),
        }
    }

    fn broken(terms: &CooperationTerms) -> Vec<(String, &'static str)> {
        let mut violations = Violations::new();
        terms.check(&sender(), TODAY, &mut violations);
        violations.into_vec().into_iter().map(|violation| (violation.field, violation.rule)).collect()
    }

    fn is_broken(terms: &CooperationTerms, field: &str, rule: &str) -> bool {
        let found = broken(terms);
        assert!(found.len() <= 1, "{found:?}");
        found.first().is_some_and(|(at, broken)| at == field && *broken == rule)
    }

    #[test]
    fn a_full_request_breaks_no_rule() {
        for task in Task::ALL {
            assert!(broken(&full(*task)).is_empty(), "{task}");
        }
    }

    #[test]
    fn each_task_needs_what_it_is_done_with() {
        for task in Task::ALL.iter().copied() {
            let nobody = CooperationTerms { has_person: false, ..full(task) };
            assert_eq!(is_broken(&nobody, "person", "REQUIRED"), task != Task::Investigate, "{task}");
            let nowhere = CooperationTerms { has_place: false, ..full(task) };
            assert_eq!(is_broken(&nowhere, "place", "REQUIRED"), task != Task::TakeApplication, "{task}");
            let bare = CooperationTerms { has_papers: false, ..full(task) };
            assert_eq!(is_broken(&bare, "content", "SERVICE_NEEDS_PAPERS"), task == Task::Serve, "{task}");
        }
    }

    #[test]
    fn no_decision_comes_before_the_application() {
        let terms = CooperationTerms { has_aid_decision: true, ..full(Task::TakeApplication) };
        assert!(is_broken(&terms, "aid_decision", "NO_DECISION_BEFORE_THE_APPLICATION"));
    }

    #[test]
    fn a_request_may_be_due_today_and_not_yesterday() {
        let due = CooperationTerms { due_on: Some(Date::constant(2026, 3, 4)), ..full(Task::Serve) };
        assert!(is_broken(&due, "due_on", "NOT_IN_THE_PAST"));
    }

    #[test]
    fn the_decision_is_that_of_who_asks() {
        let other = Some(code("11320000MB151840XJ"));
        let terms = CooperationTerms { deciding_centre: other, ..full(Task::Interview) };
        assert!(is_broken(&terms, "aid_decision.centre", "DECISION_IS_THE_SENDERS"));
    }

    #[test]
    fn a_result_short_of_done_needs_reasons() {
        let refused = |outcome, has_reasons| {
            let mut violations = Violations::new();
            ResultTerms { outcome: Some(outcome), has_reasons }.check(&mut violations);
            !violations.is_empty()
        };
        assert!(!refused(Outcome::Done, false));
        for outcome in [Outcome::PartlyDone, Outcome::NotDone] {
            assert!(refused(outcome, false));
            assert!(!refused(outcome, true));
        }
    }
}
