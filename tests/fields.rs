//! Keeps `docs/fields.md`: every item of the official forms, where it is in the contract, whether it is mandatory, how
//! it is checked, and by which article. The forms are listed here by hand, the rest is what `proto/` says.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

#[path = "fields/forms.rs"]
mod forms;

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::{env, fs};

use legal_aid_gateway::access::PACKAGE;
use legal_aid_gateway::grpc::json::descriptors;
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use self::forms::{FORMS, Form, Item, Need};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/fields.md");

/// Rewrites [`DOCUMENT`].
const UPDATE: &str = "UPDATE_DOCS";

#[test]
fn every_item_of_the_forms_is_in_the_contract_and_as_mandatory_as_the_form_says() {
    let mut faults = Vec::new();
    for Form { title, items, .. } in FORMS {
        for Item { item, need, fields } in *items {
            for path in *fields {
                let Some(field) = field(path) else {
                    faults.push(format!("{title}, {item}: no field {path}"));
                    continue;
                };
                let said = Presence::of(&field);
                if !need.agrees_with(said) {
                    faults.push(format!("{title}, {item}: the form says {need:?}, {path} says {said:?}"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_field_of_a_form_says_whether_it_is_mandatory() {
    let faults: Vec<_> = forms_messages()
        .iter()
        .flat_map(|message| message.fields().collect::<Vec<_>>())
        .filter(|field| field.containing_oneof().is_none_or(|of| of.is_synthetic()))
        .filter(|field| Presence::of(field) == Presence::Unsaid)
        .map(|field| field.full_name().to_owned())
        .collect();
    assert!(faults.is_empty(), "begin the comment with Mandatory, Conditional or Optional: {faults:#?}");
}

#[test]
fn the_document_says_what_the_contract_says() {
    let written = document();
    if env::var_os(UPDATE).is_some() {
        fs::write(DOCUMENT, &written).unwrap();
    }
    let kept = fs::read_to_string(DOCUMENT).unwrap_or_default();
    assert!(
        kept == written,
        "docs/fields.md is behind: {UPDATE}=1 cargo test --test fields, and read the difference"
    );
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Mandatory,
    Conditional,
    Optional,
    Unsaid,
}

impl Presence {
    const WORDS: [(&'static str, Self); 3] =
        [("Mandatory", Self::Mandatory), ("Conditional", Self::Conditional), ("Optional", Self::Optional)];

    fn of(field: &FieldDescriptor) -> Self {
        let comment = comment(field);
        Self::WORDS
            .into_iter()
            .find(|(word, _)| comment.starts_with(word))
            .map_or(Self::Unsaid, |(_, presence)| presence)
    }

    fn letter(self) -> &'static str {
        match self {
            Self::Mandatory => "M",
            Self::Conditional => "C",
            Self::Optional => "O",
            Self::Unsaid => "",
        }
    }
}

impl Need {
    /// A form's item may be spread over fields of which one alone is conditional.
    fn agrees_with(self, said: Presence) -> bool {
        match self {
            Self::Mandatory => said == Presence::Mandatory,
            Self::Conditional => matches!(said, Presence::Conditional | Presence::Mandatory),
            Self::Optional => matches!(said, Presence::Optional | Presence::Conditional),
        }
    }
}

fn message(name: &str) -> Option<MessageDescriptor> {
    descriptors()?.get_message_by_name(&format!("{PACKAGE}.{name}"))
}

/// The field at a path such as `FeeWaiverRequest.court_case.cause_of_action`.
fn field(path: &str) -> Option<FieldDescriptor> {
    let mut parts = path.split('.');
    let mut of = message(parts.next()?)?;
    let mut found = None;
    for part in parts {
        let field = of.get_field_by_name(part)?;
        if let Kind::Message(next) = field.kind() {
            of = next;
        }
        found = Some(field);
    }
    found
}

/// Every message of the forms, with those that they are made of, in the order in which a reader meets them.
fn forms_messages() -> Vec<MessageDescriptor> {
    let mut waiting: VecDeque<_> =
        FORMS.iter().flat_map(|form| form.messages).map(|name| message(name).expect(name)).collect();
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    while let Some(message) = waiting.pop_front() {
        let is_ours = message.package_name() == PACKAGE;
        if !is_ours || !seen.insert(message.full_name().to_owned()) {
            continue;
        }
        for field in message.fields() {
            if let Kind::Message(of) = field.kind() {
                waiting.push_back(of);
            }
        }
        found.push(message);
    }
    found
}

fn comment(field: &FieldDescriptor) -> String {
    let file = field.parent_file();
    let source = file.file_descriptor_proto().source_code_info.clone().unwrap_or_default();
    let location = source.location.iter().find(|location| location.path == field.path());
    let text = location.and_then(|location| location.leading_comments.clone()).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The articles that a comment names, such as `art 43` or `Order 481, art 46`.
fn articles(comment: &str) -> String {
    let words: Vec<_> = comment.split(' ').collect();
    let bare = |word: &str| word.trim_matches(|c: char| "().,;:".contains(c)).to_owned();
    let mut found = Vec::new();
    for (place, word) in words.iter().enumerate() {
        let word = word.trim_start_matches('(');
        if !matches!(word, "art" | "arts") {
            continue;
        }
        let law =
            match words[..place].iter().rev().take(5).map(|word| bare(word)).collect::<Vec<_>>().as_slice() {
                [order, name, ..] if name == "Order" => format!("Order {order}"),
                before if before.iter().any(|word| word == "Aid") => "Legal Aid Law".to_owned(),
                before if before.iter().any(|word| word == "Information") => {
                    "Personal Information Protection Law".to_owned()
                }
                before if before.iter().any(|word| word == "Procedure") => "Civil Procedure Law".to_owned(),
                _ => "same law".to_owned(),
            };
        // `13(1)`, or `50 and 51`.
        let is_number =
            |word: &&&str| word.starts_with(|c: char| c.is_ascii_digit()) || matches!(**word, "and" | "to");
        let number = words[place + 1..].iter().take_while(is_number).copied().collect::<Vec<_>>().join(" ");
        let number = number.trim_end_matches(['.', ',', ';', ':']);
        let is_closed = number.matches(')').count() <= number.matches('(').count();
        found.push(format!("{law} {}", if is_closed { number } else { number.trim_end_matches(')') }));
    }
    found.dedup();
    found.join("; ")
}

fn document() -> String {
    let mut text = "# The fields of the forms\n\n\
        Written by `UPDATE_DOCS=1 cargo test --test fields` from the forms' items and from `proto/`; the test fails while this page \
        is behind. M mandatory, C conditional, O optional. Every violated check is named in the answer, all at once, with field \
        path, rule and article.\n\n## Where each item of the forms is\n\n"
        .to_owned();
    for Form { title, items, .. } in FORMS {
        let _ = writeln!(text, "### {title}\n\n| item | | field |\n|---|---|---|");
        for Item { item, need, fields } in *items {
            let fields = fields.iter().map(|field| format!("`{field}`")).collect::<Vec<_>>().join(", ");
            let _ = writeln!(text, "| {item} | {} | {fields} |", need.letter());
        }
        text.push('\n');
    }
    text.push_str("## Each field\n");
    for message in forms_messages() {
        let _ = writeln!(
            text,
            "\n### {}\n\n`{}`\n\n| field | type | | meaning and check | article |\n|---|---|---|---|---|",
            message.name(),
            message.parent_file().name().rsplit('/').next().unwrap_or_default(),
        );
        for field in message.fields() {
            let said = comment(&field);
            let presence = Presence::of(&field);
            let meaning = Presence::WORDS
                .iter()
                .find_map(|(word, _)| said.strip_prefix(word))
                .map_or(said.as_str(), |rest| rest.trim_start_matches(['.', ':', ',', ' ']));
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {} | {} |",
                field.name(),
                kind(&field),
                presence.letter(),
                meaning.replace('|', "\\|"),
                articles(&said),
            );
        }
    }
    text
}

fn kind(field: &FieldDescriptor) -> String {
    let name = match field.kind() {
        Kind::Message(message) => message.name().to_owned(),
        Kind::Enum(of) => of.name().to_owned(),
        other => format!("{other:?}").to_lowercase(),
    };
    if field.is_list() { format!("{name}[]") } else { name }
}
