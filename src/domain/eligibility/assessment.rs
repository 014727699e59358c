//! What an assessment says: the outcome, and every rule that was tried on the way to it.

use std::fmt;

use jiff::civil::Date;

use super::Mark;
use crate::domain::law::Article;
use crate::domain::vocabulary::vocabulary;

vocabulary! {
    /// What is recommended, from the best for the applicant to the least certain. None refuses: a machine may grant,
    /// only a person refuses.
    pub enum Outcome {
        /// Hardship is not asked about (法律援助法 arts 32, 42).
        NoMeansTest => "NO_MEANS_TEST",
        /// A register says that the household draws a qualifying programme.
        Passported => "PASSPORTED",
        /// The declared income per head is at or below the region's line.
        WithinLine => "WITHIN_LINE",
        /// Aid first, papers later (art 44 and regional rules).
        Provisional => "PROVISIONAL",
        /// Hardship is not established yet; the applicant's undertaking can establish it (art 41).
        UndertakingNeeded => "UNDERTAKING_NEEDED",
        /// A person must look.
        ReferToPerson => "REFER_TO_PERSON",
    }
}

vocabulary! {
    /// How a rule came out.
    pub enum Verdict {
        /// It holds.
        Met => "MET",
        /// It does not.
        NotMet => "NOT_MET",
        /// It cannot be told; this leads on and is held against nobody.
        Unknown => "UNKNOWN",
    }
}

/// A text in both languages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text {
    /// In English.
    pub en: &'static str,
    /// In Chinese.
    pub zh: &'static str,
}

/// One rule that was tried. It holds the applicant's own values, so it goes to the caller only; `Debug` hides them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// The rule's id, such as `matter` or `exempt-group/42-3`.
    pub rule: String,
    /// Law and article behind it.
    pub article: String,
    /// How it came out.
    pub verdict: Verdict,
    /// What it was judged by.
    pub inputs: Vec<Input>,
    /// What would make it come out otherwise; nothing where it holds.
    pub would_change: Option<Text>,
    /// For a rule of a rule set: where the set says that it comes from.
    pub source: Option<String>,
    /// For a rule of a rule set: how well the source was checked.
    pub mark: Option<Mark>,
}

/// One value that a rule was judged by.
#[derive(Clone, PartialEq, Eq)]
pub struct Input {
    /// Its name.
    pub name: &'static str,
    /// The value; it may be personal.
    pub value: String,
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Input({} …)", self.name)
    }
}

/// Something that is to be done, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Code in UPPER_SNAKE.
    pub code: &'static str,
    /// What it is.
    pub text: Text,
    /// The article that asks for it.
    pub article: Article,
    /// The last day (Asia/Shanghai); nothing where the law says no number of days.
    pub by: Option<Date>,
}
