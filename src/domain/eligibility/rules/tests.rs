use proptest::prelude::*;

use super::*;

fn sets() -> RuleSets {
    RuleSets::load([]).unwrap()
}

fn region(code: &str) -> RegionCode {
    RegionCode::parse(code).unwrap()
}

fn day(text: &str) -> Date {
    text.parse().unwrap()
}

fn line(code: &str, on: &str) -> Option<Fen> {
    sets().in_force(region(code), day(on)).line.map(|line| line.amount)
}

fn with(text: &str) -> Result<RuleSets, RuleSetError> {
    RuleSets::load([("own.toml".to_owned(), text.to_owned())])
}

/// A set of one base amount for a county of Zhejiang that has none.
fn base(more: &str) -> String {
    format!(
        "[set]\nid = \"own\"\nregion = \"331002\"\nname = \"own\"\n\n[[base]]\nbase = \"minimum-living-allowance\"\n\
         amount_fen = 100000\nlaw = \"法律援助法\"\narticle = \"34\"\nfrom = 2025-01-01\nsource = \"a notice\"\nmark = \"M\"\n{more}"
    )
}

#[test]
fn the_line_changes_with_the_day_on_which_its_base_does() {
    assert_eq!(line("331004", "2024-06-30"), None, "no figure yet");
    assert_eq!(line("331004", "2024-07-01"), Some(Fen::yuan(2_200)));
    assert_eq!(line("331004", "2025-06-30"), Some(Fen::yuan(2_200)));
    assert_eq!(line("331004", "2025-07-01"), Some(Fen::yuan(2_400)));
    assert_eq!(line("331002", "2025-07-01"), None, "a county without a figure of its own");
}

#[test]
fn a_line_may_change_its_form() {
    assert_eq!(line("360426", "2021-12-31"), None);
    assert_eq!(line("360426", "2022-01-01"), Some(Fen::yuan(1_730)));
    assert_eq!(line("360426", "2023-12-31"), Some(Fen::yuan(1_730)));
    assert_eq!(line("360426", "2024-01-01"), Some(Fen::yuan(1_800)), "2 x 800 + 200");
}

#[test]
fn the_law_holds_everywhere_from_its_first_day() {
    let groups = |on| {
        let sets = sets();
        let rules = sets.in_force(region("110105"), day(on));
        rules.groups.iter().map(|rule| rule.id.clone()).collect::<Vec<_>>()
    };
    assert!(groups("2021-12-31").is_empty());
    assert_eq!(groups("2022-01-01"), ["42-1", "42-2", "42-3"]);
}

#[test]
fn the_nearest_region_wins() {
    let city = "[set]\nid = \"city\"\nregion = \"331000\"\nname = \"city\"\n[[line]]\nbase = \"minimum-living-allowance\"\n\
                times_permille = 1500\nplus_fen = 100\nlaw = \"法律援助法\"\narticle = \"34\"\nfrom = 2025-01-01\n\
                until = 2025-12-31\nsource = \"a notice\"\nmark = \"M\"\n";
    let sets = with(city).unwrap();
    let line = |on| sets.in_force(region("331004"), day(on)).line.unwrap().amount;
    assert_eq!(line("2024-12-31"), Fen::yuan(2_200), "the province's, before the city's");
    assert_eq!(line("2025-01-01"), Fen::yuan(1_651));
    assert_eq!(line("2025-12-31"), Fen::yuan(1_801));
    assert_eq!(line("2026-01-01"), Fen::yuan(2_400), "the province's again");
}

#[test]
fn a_file_replaces_the_built_in_set_of_its_id() {
    let text = base("").replace("\"own\"", "\"luqiao\"").replace("331002", "331004");
    let sets = with(&text).unwrap();
    let rules = sets.in_force(region("331004"), day("2026-01-01"));
    assert_eq!(rules.line.unwrap().amount, Fen::yuan(2_000));
    assert!(rules.groups.iter().all(|rule| rule.id != "green-channel"));
}

#[test]
fn what_is_wrong_is_said_with_file_and_line() {
    let again = "\n[[base]]\nbase = \"minimum-living-allowance\"\namount_fen = 1\nlaw = \"法律援助法\"\narticle = \"34\"\n\
                 from = 2025-12-31\nsource = \"a notice\"\nmark = \"M\"\n";
    let group = "\n[[exempt_group]]\nid = \"g\"\ngroups = [\"giant\"]\nlaw = \"法律援助法\"\narticle = \"42(4)\"\n\
                 from = 2025-01-01\nsource = \"a notice\"\nmark = \"M\"\n";
    let programme = "\n[[programme]]\nprogramme = \"lottery\"\nlaw = \"法律援助法\"\narticle = \"42(4)\"\n\
                     from = 2025-01-01\nsource = \"a notice\"\nmark = \"M\"\n";
    let cases = [
        (base(again), "own.toml:15: overlapping dates: own.toml:6"),
        (base("").replace("source = \"a notice\"\n", ""), "own.toml:6: missing field `source`"),
        (base("").replace("a notice", " "), "own.toml:6: the source is empty"),
        (base("").replace("331002", "991002"), "own.toml:3: unknown region"),
        (base(group), "own.toml:17: unknown variant `giant`"),
        (base(programme), "own.toml:16: unknown variant `lottery`"),
        (base("until = 2024-12-31\n"), "own.toml:6: it ends before it begins"),
        (base("").replace("2025-01-01", "2025-01-01T00:00:00"), "own.toml:11: a day is written as"),
        (base("").replace("amount_fen = 100000", "amount_fen = -1"), "own.toml:8: an amount of money"),
        (base("").replace("article = \"34\"", "article = \"x\""), "own.toml:6: the article is not a number"),
        (base("surprise = 1\n"), "own.toml:14: unknown field `surprise`"),
        (base("").replace("id = \"own\"", "id = \"Own set\""), "own.toml:2: a set's id"),
    ];
    for (text, expected) in cases {
        let error = with(&text).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}\ninstead of {expected}");
    }
    let twice = [("a.toml".to_owned(), base("")), ("b.toml".to_owned(), base(""))];
    assert_eq!(RuleSets::load(twice).unwrap_err().to_string(), "b.toml:2: a.toml has the same set id");
}

#[test]
fn rules_of_two_files_must_not_overlap_and_may_follow_one_another() {
    let other = base("").replace("\"own\"", "\"other\"");
    let both = |first: String| {
        RuleSets::load([("a.toml".to_owned(), first), ("b.toml".to_owned(), other.clone())]).map(|_| ())
    };
    let error = both(base("")).unwrap_err().to_string();
    assert!(error.starts_with("b.toml:6: overlapping dates: a.toml:6"), "{error}");
    assert!(
        both(base("until = 2025-01-01\n").replacen("from = 2025-01-01", "from = 2024-01-01", 1)).is_err()
    );
    assert!(both(base("until = 2024-12-31\n").replacen("from = 2025-01-01", "from = 2024-01-01", 1)).is_ok());
}

proptest! {
    #[test]
    fn reading_a_rule_set_never_panics(text in any::<String>(), piece in "(\\[\\[?(set|line|base)\\]\\]?\n|[a-z_]{1,8} = .{0,12}\n){0,8}") {
        let _ = with(&text);
        let _ = with(&piece);
    }
}
