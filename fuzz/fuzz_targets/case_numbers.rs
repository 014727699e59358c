//! A case number is printed in its one spelling, and that is read as the same.
#![no_main]

use legal_aid_gateway::domain::case_number::CaseNumber;
use legal_aid_gateway_fuzz::seeds;
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: seeds("case_numbers", || EXAMPLES.map(|(name, text)| (name, text.as_bytes().to_vec())).into()),
    |text: &str| {
        let Ok(number) = CaseNumber::parse(text) else { return };
        let printed = number.to_string();
        assert_eq!(CaseNumber::parse(&printed).as_ref(), Ok(&number), "{printed}");
        assert!(printed.chars().count() <= 40, "{printed}");
    }
);

const EXAMPLES: [(&str, &str); 6] = [
    ("first", "（2024）浙1004民初123号"),
    ("half-width", "(2024) 浙10民终 45号"),
    ("part", "（2024）浙1004执123号之二"),
    ("part-arabic", "（2024）浙1004执123号之12"),
    ("high", "（2023）浙刑申7号"),
    ("supreme", "（2022）最高法民再300号"),
];
