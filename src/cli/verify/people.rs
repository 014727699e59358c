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
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&text, path, today)
}

/// Reads the text of the file at `path`, which problems name.
pub(super) fn parse(text: &[u8], path: &Path, today: Date) -> anyhow::Result<Vec<Line>> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(text);
    let head = reader.headers().with_context(|| format!("{} has no head in UTF-8", path.display()))?;
    let mut reading = Reading { places: HashMap::new(), problems: Vec::new(), seen: HashMap::new(), today };
    reading.head(&head.clone());
    let (mut lines, mut counted) = (Vec::new(), Counted::default());
    for record in reader.records() {
        match record {
            Ok(record) if reading.places.is_empty() => drop(record),
            Ok(record) => {
                let number = counted.line_of(text, record.position());
                lines.extend(reading.line(number, &record));
            }
            Err(error) => {
                let line = counted.line_of(text, error.position());
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

/// Lines as far as they were counted. A record's own position still stands before the line feed of a CRLF and before
/// empty lines; a result must name the line on which its person stands, and no two persons may share one. So every end of
/// a record ends a line: LF, CRLF, and the CR alone that some spreadsheets write.
#[derive(Default)]
struct Counted {
    bytes: usize,
    ends: u64,
}

impl Counted {
    /// The line, from 1, of what begins at or after a position.
    fn line_of(&mut self, text: &[u8], position: Option<&csv::Position>) -> u64 {
        let at = position.and_then(|position| usize::try_from(position.byte()).ok()).unwrap_or_default();
        let is_record = |place: &usize| text.get(*place).is_none_or(|byte| !matches!(byte, b'\r' | b'\n'));
        let start = (at.min(text.len())..).find(is_record).unwrap_or(text.len()).min(text.len());
        let new = text.get(self.bytes..start).unwrap_or_default();
        // What is counted stops before a record, so never within a CRLF.
        let ends_line = |(place, byte): &(usize, &u8)| match byte {
            b'\n' => true,
            b'\r' => new.get(place + 1) != Some(&b'\n'),
            _ => false,
        };
        self.ends += new.iter().enumerate().filter(ends_line).count() as u64;
        self.bytes = self.bytes.max(start);
        self.ends + 1
    }
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

    fn line(&mut self, number: u64, record: &StringRecord) -> Option<Line> {
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
    use proptest::prelude::*;

    use super::*;
    use crate::domain::person::may_hold_resident_id;

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

    #[test]
    fn a_file_as_a_spreadsheet_writes_it_is_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "\u{feff}\"name\",\"id_number\",household_region\r\n\
                    \"测试甲\", 331004198001010016 ,\"331004\"\r\n\r\n\
                    测试乙,11010519491231002x,331004\r\n";
        std::fs::write(file.path(), text).unwrap();
        let lines = read(file.path(), Date::constant(2026, 1, 1)).unwrap();
        let found: Vec<_> = lines.iter().map(|line| (line.number, line.subject.name.as_str())).collect();
        assert_eq!(found, [(2, "测试甲"), (4, "测试乙")]);
        assert!(read_error("name,id_number,household_region\r\n").contains("names nobody"));
        assert!(read_error("").contains("column name is missing"));
        let twice = "name,id_number,household_region\n甲某,11010519491231002x,331004\n甲某,11010519491231002X,331004\n";
        assert!(read_error(twice).contains("the same person stands in line 2"));
        assert!(
            read_error("name,id_number,household_region\n测试甲,331004198001010016\n").contains("line 2")
        );
    }

    #[test]
    fn persons_on_lines_that_end_in_a_carriage_return_alone_have_a_line_each() {
        let text = "name,id_number,household_region\r测试甲,331004198001010016,331004\r\r\
                    测试乙,331004199002020026,331004\r\n测试丙,11010519491231002X,331004\n";
        let lines = parse(text.as_bytes(), Path::new("people.csv"), Date::constant(2026, 1, 1)).unwrap();
        assert_eq!(lines.iter().map(|line| line.number).collect::<Vec<_>>(), [2, 4, 5]);
    }

    fn read_error(text: &str) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read(file.path(), Date::constant(2026, 1, 1)).err().unwrap().to_string()
    }

    proptest! {
        #[test]
        fn a_file_of_any_text_is_read_or_refused_and_no_number_is_repeated(
            lines in prop::collection::vec(
                prop_oneof![
                    Just("测试甲,331004198001010016,331004,331004101201,LQ-2026-0001"),
                    Just("测试甲,331004198001010017,331004"),
                    Just("\"测试\n乙\",331004199002020026"),
                    Just("331004199002020026,331004199002020026,331004199002020026,331004199002020026"),
                    Just("\"331004199002020026"),
                    Just(""),
                    Just("\r"),
                ],
                0..8,
            ),
            more in "\\PC{0,30}", has_head in any::<bool>(),
        ) {
            let head = if has_head { "name,id_number,household_region,village_code,matter\n" } else { "" };
            let text = format!("{head}{}\n{more}", lines.join("\n"));
            match parse(text.as_bytes(), Path::new("people.csv"), Date::constant(2026, 1, 1)) {
                Ok(people) => prop_assert!(people.is_sorted_by(|one, next| one.number < next.number)),
                Err(error) => {
                    let said = format!("{error:#}");
                    prop_assert!(!may_hold_resident_id(&said));
                }
            }
        }
    }
}
