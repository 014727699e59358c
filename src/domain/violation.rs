//! What is wrong with a message, all of it at once: missing papers are named once (法律援助法 art 43).

use std::fmt::Display;

use super::law::Article;

/// One rule that one field breaks. Neither the path nor the texts carry a value of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field from the message's root, such as `applicant.id_number` or `attachments[2].sha256`.
    pub field: String,
    /// The rule's id in UPPER_SNAKE, stable across versions.
    pub rule: &'static str,
    /// What is wrong, in English, for the peer's engineer.
    pub description: String,
    /// What is wrong, in Chinese, for the person at the desk.
    pub description_zh: String,
    /// Where the rule comes from, if law or a standard says it.
    pub article: Option<Article>,
}

/// A remark that does not stop the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Path of the field from the remarked message, such as `fee_fen`.
    pub field: String,
    /// Rule in UPPER_SNAKE.
    pub rule: &'static str,
    /// In English.
    pub description: String,
    /// In Chinese.
    pub description_zh: String,
    /// The article behind it.
    pub article: Article,
}

/// An error that names the rule it stands for. Its `Display` is the English description and never
/// repeats the input.
pub trait BrokenRule: Display {
    /// The rule's id in UPPER_SNAKE.
    fn rule(&self) -> &'static str;

    /// What is wrong, in Chinese.
    fn description_zh(&self) -> &'static str;

    /// Where the rule comes from.
    fn article(&self) -> Option<Article> {
        None
    }
}

/// Collects violations in the order they are found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Violations(Vec<Violation>);

impl Violations {
    /// Nothing wrong so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a broken rule that is this gateway's own.
    pub fn add(
        &mut self,
        field: impl Into<String>,
        rule: &'static str,
        description: impl Into<String>,
        description_zh: impl Into<String>,
    ) {
        self.push(field.into(), rule, description.into(), description_zh.into(), None);
    }

    /// Notes a broken rule that an article of law or a standard makes.
    pub fn add_by_article(
        &mut self,
        field: impl Into<String>,
        rule: &'static str,
        description: impl Into<String>,
        description_zh: impl Into<String>,
        article: Article,
    ) {
        self.push(field.into(), rule, description.into(), description_zh.into(), Some(article));
    }

    /// Takes the value out of a parse, or notes what its error says; other fields can go on being read.
    pub fn check<T, E: BrokenRule>(&mut self, field: impl Into<String>, parsed: Result<T, E>) -> Option<T> {
        match parsed {
            Ok(value) => Some(value),
            Err(error) => {
                let (rule, zh, article) = (error.rule(), error.description_zh(), error.article());
                self.push(field.into(), rule, error.to_string(), zh.to_owned(), article);
                None
            }
        }
    }

    /// Passes a value through, or notes `REQUIRED` where it is missing.
    pub fn require<T>(&mut self, field: impl Into<String>, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.add(field, "REQUIRED", "a value is required", "此项必填");
        }
        value
    }

    /// Runs `fill` on a nested message; the fields it notes get `prefix.` before them.
    pub fn within<T>(&mut self, prefix: &str, fill: impl FnOnce(&mut Violations) -> T) -> T {
        let mut nested = Violations::new();
        let outcome = fill(&mut nested);
        self.0.extend(
            nested
                .0
                .into_iter()
                .map(|violation| Violation { field: join(prefix, &violation.field), ..violation }),
        );
        outcome
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many rules are broken.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// What was found so far.
    pub fn as_slice(&self) -> &[Violation] {
        &self.0
    }

    /// Everything that was found.
    pub fn into_vec(self) -> Vec<Violation> {
        self.0
    }

    fn push(
        &mut self,
        field: String,
        rule: &'static str,
        description: String,
        description_zh: String,
        article: Option<Article>,
    ) {
        self.0.push(Violation { field, rule, description, description_zh, article });
    }
}

/// Joins two parts of a path; a nested message that is wrong as a whole has an empty field.
fn join(prefix: &str, field: &str) -> String {
    match (prefix.is_empty(), field.is_empty()) {
        (true, _) => field.to_owned(),
        (_, true) => prefix.to_owned(),
        _ => format!("{prefix}.{field}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::agency::CreditCode;

    #[test]
    fn all_violations_are_collected_in_order_with_their_paths() {
        let mut violations = Violations::new();
        assert!(violations.require("request_id", None::<u8>).is_none());
        assert_eq!(violations.require("kind", Some(1)), Some(1));
        violations.within("case", |case| {
            case.within("court", |court| court.add("", "COURT_UNKNOWN", "unknown court", "未知法院"));
            case.add_by_article("number", "X", "x", "某", Article::legal_aid_law("43"));
        });
        let found = violations.into_vec();
        let fields: Vec<_> = found.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(fields, ["request_id", "case.court", "case.number"]);
        assert_eq!(found[2].article, Some(Article::legal_aid_law("43")));
    }

    #[test]
    fn a_failed_parse_is_noted_by_its_rule_and_without_its_input() {
        let mut violations = Violations::new();
        assert!(violations.check("sender", CreditCode::parse("91110000600037341L")).is_some());
        assert!(violations.is_empty());
        assert!(violations.check("sender", CreditCode::parse("91350100M000100Y4Z")).is_none());
        let found = violations.into_vec();
        assert_eq!(found[0].rule, "CREDIT_CODE_CHARACTER");
        assert_eq!(found[0].article, Some(Article::gb_32100()));
        assert!(!format!("{found:?}").contains("M000100"));
    }
}
