//! Rule sets as TOML files, and what can be wrong with them.

use std::collections::BTreeMap;

use jiff::civil::Date;
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::{Area, Base, BaseAmount, GroupRule, LineRule, Mark, ProgrammeRule, Provenance, RuleSets};
use crate::domain::eligibility::{Matter, Programme};
use crate::domain::law::LegalBasis;
use crate::domain::money::Fen;
use crate::domain::person::Group;
use crate::domain::region::RegionCode;

/// What is wrong with a rule set, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {problem}")]
pub struct RuleSetError {
    /// The file.
    pub file: String,
    /// Line in it, from 1.
    pub line: usize,
    /// What is wrong, and what to do.
    pub problem: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    set: Set,
    #[serde(default)]
    line: Vec<Spanned<Line>>,
    #[serde(default)]
    base: Vec<Spanned<Amount>>,
    #[serde(default)]
    exempt_group: Vec<Spanned<ExemptGroup>>,
    #[serde(default)]
    programme: Vec<Spanned<Qualifying>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Set {
    id: Spanned<String>,
    region: Spanned<String>,
    #[allow(dead_code, reason = "for people who read the file")]
    name: String,
}

/// Declares a table of a file: its own fields, and those that every rule has.
macro_rules! table {
    ($name:ident { $( $(#[$about:meta])* $field:ident: $type:ty, )* }) => {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct $name {
            $( $(#[$about])* $field: $type, )*
            law: String,
            article: String,
            #[serde(deserialize_with = "day")]
            from: Date,
            #[serde(default, deserialize_with = "some_day")]
            until: Option<Date>,
            source: String,
            mark: Mark,
        }

        impl Described for $name {
            fn described(&self) -> Description<'_> {
                let Self { law, article, from, until, source, mark, .. } = self;
                Description { law, article, from: *from, until: *until, source, mark: *mark }
            }
        }
    };
}

table! { Line { base: Base, times_permille: u32, plus_fen: Fen, } }
table! { Amount { base: Base, amount_fen: Fen, } }
table! { ExemptGroup {
    id: String,
    groups: Vec<Group>,
    #[serde(default)] matters: Vec<Matter>,
    #[serde(default)] no_fixed_livelihood: bool,
    #[serde(default)] papers_later: bool,
} }
table! { Qualifying { programme: Programme, } }

trait Described {
    fn described(&self) -> Description<'_>;
}

/// What every rule says of itself.
struct Description<'t> {
    law: &'t str,
    article: &'t str,
    from: Date,
    until: Option<Date>,
    source: &'t str,
    mark: Mark,
}

fn day<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Date, D::Error> {
    let written = toml::value::Datetime::deserialize(deserializer)?;
    let day = if written.time.is_none() { written.to_string().parse().ok() } else { None };
    day.ok_or_else(|| serde::de::Error::custom("a day is written as 2026-01-31, without a time"))
}

fn some_day<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Date>, D::Error> {
    day(deserializer).map(Some)
}

/// One file while it is read.
struct Reading<'t> {
    file: &'t str,
    text: &'t str,
}

impl Reading<'_> {
    fn error(&self, at: usize, problem: impl Into<String>) -> RuleSetError {
        let before = self.text.as_bytes().iter().take(at);
        let line = 1 + before.filter(|byte| **byte == b'\n').count();
        RuleSetError { file: self.file.to_owned(), line, problem: problem.into() }
    }

    fn place(&self, at: usize) -> String {
        let RuleSetError { file, line, .. } = self.error(at, "");
        format!("{file}:{line}")
    }

    fn parse(&self) -> Result<File, RuleSetError> {
        toml::from_str(self.text)
            .map_err(|error| self.error(error.span().map_or(0, |span| span.start), error.message()))
    }

    fn area(&self, region: &Spanned<String>) -> Result<Area, RuleSetError> {
        if region.get_ref() == "CN" {
            return Ok(Area::Nation);
        }
        RegionCode::parse(region.get_ref()).map(Area::Region).map_err(|error| {
            self.error(region.span().start, format!("unknown region: {error}; CN stands for the nation"))
        })
    }

    fn provenance<T: Described>(
        &self,
        rule: &Spanned<T>,
        set: &str,
        area: Area,
    ) -> Result<Provenance, RuleSetError> {
        let at = rule.span().start;
        let Description { law, article, from, until, source, mark } = rule.get_ref().described();
        if source.trim().is_empty() {
            return Err(self.error(at, "the source is empty: say where the rule was found"));
        }
        if until.is_some_and(|until| until < from) {
            return Err(self.error(at, "it ends before it begins"));
        }
        let basis = LegalBasis::parse(law, article).map_err(|error| self.error(at, error.to_string()))?;
        Ok(Provenance {
            set: set.to_owned(),
            area,
            basis,
            from,
            until,
            source: source.to_owned(),
            mark,
            place: self.place(at),
        })
    }

    /// Adds the rules of the file.
    fn add(&self, file: File, sets: &mut RuleSets) -> Result<(), RuleSetError> {
        let (id, area) = (file.set.id.into_inner(), self.area(&file.set.region)?);
        for rule in file.line {
            let about = self.provenance(&rule, &id, area)?;
            let at = rule.span().start;
            let Line { base, times_permille, plus_fen, .. } = rule.into_inner();
            self.check_overlap(at, &about, sets.lines.iter().map(|other| &other.about), "line")?;
            sets.lines.push(LineRule { base, times_permille, plus: plus_fen, about });
        }
        for rule in file.base {
            let about = self.provenance(&rule, &id, area)?;
            let at = rule.span().start;
            let Amount { base, amount_fen, .. } = rule.into_inner();
            let same = sets.bases.iter().filter(|other| other.base == base).map(|other| &other.about);
            self.check_overlap(at, &about, same, base.as_str())?;
            sets.bases.push(BaseAmount { base, amount: amount_fen, about });
        }
        for rule in file.exempt_group {
            let about = self.provenance(&rule, &id, area)?;
            let at = rule.span().start;
            let ExemptGroup { id, groups, matters, no_fixed_livelihood, papers_later, .. } =
                rule.into_inner();
            if id.is_empty() || groups.is_empty() {
                return Err(self.error(at, "an exempt group needs an id and at least one group"));
            }
            let same = sets.groups.iter().filter(|other| other.id == id).map(|other| &other.about);
            self.check_overlap(at, &about, same, &id)?;
            sets.groups.push(GroupRule { id, groups, matters, no_fixed_livelihood, papers_later, about });
        }
        for rule in file.programme {
            let about = self.provenance(&rule, &id, area)?;
            let at = rule.span().start;
            let Qualifying { programme, .. } = rule.into_inner();
            let same = sets.programmes.iter().filter(|other| other.programme == programme);
            self.check_overlap(at, &about, same.map(|other| &other.about), programme.as_str())?;
            sets.programmes.push(ProgrammeRule { programme, about });
        }
        Ok(())
    }

    fn check_overlap<'p>(
        &self,
        at: usize,
        new: &Provenance,
        others: impl Iterator<Item = &'p Provenance>,
        what: &str,
    ) -> Result<(), RuleSetError> {
        let last = |about: &Provenance| about.until.unwrap_or(Date::MAX);
        let mut same_area = others.filter(|other| other.area == new.area);
        match same_area.find(|other| other.from <= last(new) && new.from <= last(other)) {
            None => Ok(()),
            Some(other) => {
                let (place, area) = (&other.place, new.area);
                Err(self.error(at, format!("overlapping dates: {place} has a rule for {what} in {area} too")))
            }
        }
    }
}

pub(super) fn load(
    built_in: &[(&str, &str)],
    files: impl IntoIterator<Item = (String, String)>,
) -> Result<RuleSets, RuleSetError> {
    let files: Vec<_> = files.into_iter().collect();
    let mut added = BTreeMap::new();
    let mut parsed = Vec::new();
    for (name, text) in &files {
        let reading = Reading { file: name, text };
        let file = reading.parse()?;
        let id = file.set.id.get_ref();
        let is_id = |id: &str| {
            (1..=64).contains(&id.len())
                && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        };
        let at = file.set.id.span().start;
        if !is_id(id) {
            return Err(reading.error(at, "a set's id has 1 to 64 of a-z 0-9 -"));
        }
        if let Some(other) = added.insert(id.clone(), name.clone()) {
            return Err(reading.error(at, format!("{other} has the same set id")));
        }
        parsed.push((reading, file));
    }
    let mut sets =
        RuleSets { lines: Vec::new(), bases: Vec::new(), groups: Vec::new(), programmes: Vec::new() };
    for (name, text) in built_in {
        let reading = Reading { file: name, text };
        let file = reading.parse()?;
        if !added.contains_key(file.set.id.get_ref()) {
            reading.add(file, &mut sets)?;
        }
    }
    for (reading, file) in parsed {
        reading.add(file, &mut sets)?;
    }
    Ok(sets)
}
