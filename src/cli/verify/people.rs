//! The people of a batch, from a CSV file. Everything that is wrong with the file is said at once.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context as _, bail};
use csv::StringRecord;
use jiff::civil::Date;

use crate::domain::agency::MatterId;
use crate::domain::person::{IdDocument, IdKind, PersonName};
use crate::domain::region::{RegionCode, VillageCode};
use crate::domain::violation::BrokenRule;
use crate::grpc::proto;

/// The columns: name, and whether there must be one.
const COLUMNS: [(&str, bool); 5] = [
    ("name", true),
    ("id_number", true),
    ("household_region", true),
    ("village_code", false),
    ("matter", false),
];

/// One person to ask about. It has no `Debug`: it holds personal values.
pub(super) struct Line {
    /// Where it stands in the file; the head is line 1.
    pub(super) number: u64,
    pub(super) subject: proto::Subject,
    /// Empty where there is none.
    pub(super) village_code: String,
    /// Empty where the command's matter holds.
    pub(super) matter: String,
}

/// Reads the file.
pub(super) fn read(path: &Path, today: Date) -> anyhow::Result<Vec<Line>> {
    let mut reader = csv::ReaderBuilder::new()
        .flexible(true)
        .trim(csv::Trim::All)
        .from_path(path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let head = reader.headers().with_context(|| format!("{} has no head in UTF-8", path.display()))?;
    let mut reading = Reading { places: HashMap::new(), problems: Vec::new(), seen: HashMap::new(), today };
    reading.head(&head.clone());
    let mut lines = Vec::new();
    for record in reader.records() {
        match record {
            Ok(record) if reading.places.is_empty() => drop(record),
            Ok(record) => lines.extend(reading.line(&record)),
            Err(error) => {
                let line = error.position().map_or(0, csv::Position::line);
                reading.problems.push(format!("line {line}: not CSV in UTF-8"));
            }
        }
    }
    let problems = reading.problems;
    if !problems.is_empty() {
        bail!("{} cannot be asked as it is:\n  {}", path.display(), problems.join("\n  "));
    }
    if lines.is_empty() {
        bail!("{} names nobody", path.display());
    }
    Ok(lines)
}

/// A file as far as it was read.
struct Reading {
    /// Where each column stands; empty when the head is wrong.
    places: HashMap<&'static str, usize>,
    problems: Vec<String>,
    /// The line of each document number.
    seen: HashMap<String, u64>,
    today: Date,
}

impl Reading {
    fn head(&mut self, head: &StringRecord) {
        let before = self.problems.len();
        let mut places = HashMap::new();
        for (place, name) in head.iter().enumerate() {
            let name = name.trim_start_matches('\u{feff}');
            match COLUMNS.iter().find(|(known, _)| *known == name) {
                Some((known, _)) if places.insert(*known, place).is_none() => {}
                Some((known, _)) => self.problems.push(format!("line 1: column {known} stands there twice")),
                // Its text is not repeated: without a head, it is a person's.
                None => self.problems.push(format!("line 1: column {} has no known name", place + 1)),
            }
        }
        for (name, _) in COLUMNS.iter().filter(|(name, must)| *must && !places.contains_key(name)) {
            self.problems.push(format!("line 1: column {name} is missing"));
        }
        if self.problems.len() == before {
            self.places = places;
        }
    }

    fn line(&mut self, record: &StringRecord) -> Option<Line> {
        let number = record.position().map_or(0, csv::Position::line);
        let before = self.problems.len();
        let field = |name| self.places.get(name).and_then(|place| record.get(*place)).unwrap_or_default();
        let (name, id_number) = (field("name").to_owned(), field("id_number").to_owned());
        let (region, village) = (field("household_region").to_owned(), field("village_code").to_owned());
        let matter = field("matter").to_owned();
        self.check(number, "name", PersonName::parse(&name));
        let id = IdDocument::parse(IdKind::ResidentId, &id_number, self.today);
        let id = self.check(number, "id_number", id);
        let region_code = self.check(number, "household_region", RegionCode::parse(&region));
        if !village.is_empty() {
            let code = self.check(number, "village_code", VillageCode::parse(&village));
            if let (Some(code), Some(region)) = (code, region_code)
                && !code.region().is_within(region)
            {
                self.problem(number, "village_code", "the village must lie in the household's region");
            }
        }
        if !matter.is_empty() {
            self.check(number, "matter", MatterId::parse(&matter));
        }
        if let Some(earlier) = id.and_then(|id| self.seen.insert(id.reveal().to_owned(), number)) {
            self.problem(number, "id_number", &format!("the same person stands in line {earlier}"));
        }
        (self.problems.len() == before).then_some(Line {
            number,
            subject: proto::Subject {
                name,
                id_kind: proto::IdKind::ResidentId.into(),
                id_number,
                household_region: region,
            },
            village_code: village,
            matter,
        })
    }

    fn check<T, E: BrokenRule>(&mut self, line: u64, column: &str, parsed: Result<T, E>) -> Option<T> {
        match parsed {
            Ok(value) => Some(value),
            Err(error) => {
                self.problem(line, column, &format!("{error} [{}]", error.rule()));
                None
            }
        }
    }

    fn problem(&mut self, line: u64, column: &str, what: &str) {
        self.problems.push(format!("line {line}, column {column}: {what}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let Err(error) = read(file.path(), Date::constant(2026, 1, 1)) else { return Vec::new() };
        error.to_string().lines().skip(1).map(|line| line.trim().to_owned()).collect()
    }

    #[test]
    fn all_problems_are_named_by_line_and_column_and_repeat_no_persons_text() {
        let found = problems(
            "name,id_number,household_region,village_code\n\
             测试甲,331004198001010016,331004,331004101201\n\
             测试乙,331004199002020027,331004,331002101201\n\
             ,331004198001010016,99,\n",
        );
        let places: Vec<_> = found.iter().map(|line| line.split(':').next().unwrap()).collect();
        let expected = [
            "line 3, column id_number",
            "line 3, column village_code",
            "line 4, column name",
            "line 4, column household_region",
            "line 4, column id_number",
        ];
        assert_eq!(places, expected);
        assert!(!found.concat().contains("331004199002020027") && !found.concat().contains("测试"));
        let found = problems("张三,331004198001010016\n李四,331004199002020026\n");
        assert_eq!(found.len(), 5, "{found:?}");
        assert!(!found.concat().contains("张三"));
    }
}
