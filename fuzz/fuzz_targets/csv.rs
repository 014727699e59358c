//! The people of a batch: whoever is read stands on the line that is named, and what is wrong repeats no number.
#![no_main]

use std::collections::BTreeSet;

use jiff::civil::date;
use legal_aid_gateway::cli::read_people;
use legal_aid_gateway::domain::person::{IdDocument, IdKind, may_hold_resident_id};
use legal_aid_gateway_fuzz::seeds;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: seeds("csv", || EXAMPLES.map(|(name, text)| (name, text.as_bytes().to_vec())).into()), |text: &[u8]| {
    let today = date(2026, 11, 18);
    match read_people(text, today) {
        Ok(people) => {
            let (mut lines, mut numbers) = (BTreeSet::new(), BTreeSet::new());
            for (line, person) in people {
                let id = IdDocument::parse(IdKind::ResidentId, &person.id_number, today).unwrap();
                assert!(numbers.insert(id.reveal().to_owned()), "one person twice");
                assert!(lines.insert(line), "two people on line {line}");
                let ends = text.iter().filter(|byte| matches!(byte, b'\r' | b'\n')).count() as u64;
                assert!((2..=1 + ends).contains(&line), "line {line} is not there");
            }
        }
        Err(error) => assert!(!may_hold_resident_id(&format!("{error:#}")), "a resident number is repeated"),
    }
});

const EXAMPLES: [(&str, &str); 5] = [
    (
        "people",
        "name,id_number,household_region,village_code,matter\n测试甲,331004198001010016,331004,331004101201,LQ-2026-0001\n测试乙,331004199002020026,331004,,\n",
    ),
    (
        "spreadsheet",
        "\u{feff}\"name\",\"id_number\",household_region\r\n\"测试甲\", 331004198001010016 ,\"331004\"\r\n\r\n测试乙,11010519491231002x,331004\r\n",
    ),
    ("wrong", "name,id_number,household_region\n,331004198001010017,99\n"),
    (
        "carriage-returns",
        "name,id_number,household_region\r测试甲,331004198001010016,331004\r测试乙,331004199002020026,331004\r",
    ),
    ("no-head", "测试甲,331004198001010016\n"),
];
