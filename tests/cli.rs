//! What people type: the pages of docs/kinds followed to their end by hand, and refusals that say what to do.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use legal_aid_gateway::simulator::court::Script;
use serde_json::Value;
use support::{Folder, Gateway, PATIENCE};

/// Runs a command that must succeed.
async fn done(folder: &Folder, arguments: &[&str]) -> String {
    let output = folder.run(arguments).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command that must fail; what it says on standard error.
async fn refused(folder: &Folder, arguments: &[&str]) -> String {
    let output = folder.run(arguments).await;
    assert!(!output.status.success(), "{arguments:?} succeeded");
    String::from_utf8(output.stderr).unwrap()
}

/// Answers an exchange with a text; what the command prints.
async fn respond(folder: &Folder, id: &str, who: &str, purpose: &str, answer: &str) -> String {
    std::fs::write(folder.file("answer.json"), answer).unwrap();
    let arguments = ["exchange", "respond", id, "--as", who, "--purpose", purpose, "--file", "answer.json"];
    done(folder, &arguments).await
}

/// Pulls until an exchange has come: while the gateway tries to push it, it does not wait for who pulls.
async fn take(folder: &Folder, id: &str, who: &str, purpose: &str) {
    let pull = ["exchange", "pull", "--as", who, "--purpose", purpose, "--receipt", "--acknowledge"];
    let pulled = async {
        loop {
            let said = done(folder, &pull).await;
            if said.contains(id) {
                return said;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let said = tokio::time::timeout(PATIENCE, pulled).await.expect("it comes");
    assert!(said.contains("pull again until nothing waits"), "{said}");
}

/// The JSON texts of a page, in their order.
fn examples(page: &str) -> Vec<String> {
    let blocks = page.split("```json\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

/// The first example of a page opens an exchange, the others are the recipient's answers, up to the decision.
async fn follow(folder: &Folder, page: &str, [sender, recipient]: [&str; 2], purpose: &str) {
    let examples = examples(page);
    assert!(examples.len() > 1, "the page shows no answer");
    std::fs::write(folder.file("opening.json"), &examples[0]).unwrap();
    let opened =
        done(folder, &["exchange", "submit", "--as", sender, "--file", "opening.json", "--json"]).await;
    let opened: Value = serde_json::from_str(&opened).unwrap();
    let id = opened["exchange"]["exchange_id"].as_str().unwrap();
    take(folder, id, recipient, purpose).await;
    for answer in &examples[1..] {
        respond(folder, id, recipient, purpose, answer).await;
    }
    let shown = done(folder, &["exchange", "show", id, "--as", sender, "--purpose", purpose]).await;
    assert!(shown.contains("DECIDED"), "{shown}");
}

#[tokio::test]
async fn each_page_of_a_kind_leads_to_a_decision() {
    let folder = Folder::prepare(Script::TakeOnly);
    let gateway = Gateway::start(&folder).await;
    let (centre, court) = ("centre.toml", "court.toml");
    for (page, parties, purpose) in [
        (include_str!("../docs/kinds/fee-waiver.md"), [centre, court], "FEE_WAIVER"),
        (include_str!("../docs/kinds/judicial-relief.md"), [centre, court], "JUDICIAL_RELIEF"),
        (include_str!("../docs/kinds/appeal-referral.md"), [centre, "procuratorate.toml"], "APPEAL_REFERRAL"),
        (include_str!("../docs/kinds/counsel-notice.md"), [court, centre], "COUNSEL_ASSIGNMENT"),
        (include_str!("../docs/kinds/direct-assignment-report.md"), [court, centre], "COUNSEL_ASSIGNMENT"),
        (include_str!("../docs/kinds/cooperation-request.md"), [centre, "neighbour.toml"], "COOPERATION"),
    ] {
        follow(&folder, page, parties, purpose).await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn the_answers_that_every_kind_has_are_taken_as_the_page_shows_them() {
    let folder = Folder::prepare(Script::TakeOnly);
    let gateway = Gateway::start(&folder).await;
    let examples = examples(include_str!("../docs/kinds/README.md"));
    let submit = ["exchange", "submit", "--as", "centre.toml", "--file", "fee-waiver.json", "--json"];
    let opened: Value = serde_json::from_str(&done(&folder, &submit).await).unwrap();
    let id = opened["exchange"]["exchange_id"].as_str().unwrap();
    take(&folder, id, "court.toml", "FEE_WAIVER").await;
    for (answer, who) in examples.iter().zip(["court.toml", "centre.toml"]) {
        respond(&folder, id, who, "FEE_WAIVER", answer).await;
    }
    let decision = &self::examples(include_str!("../docs/kinds/fee-waiver.md"))[1];
    respond(&folder, id, "court.toml", "FEE_WAIVER", decision).await;
    let closed = respond(&folder, id, "centre.toml", "FEE_WAIVER", &examples[2]).await;
    assert!(closed.contains("CLOSED"), "{closed}");

    let opened: Value = serde_json::from_str(&done(&folder, &submit).await).unwrap();
    let id = opened["exchange"]["exchange_id"].as_str().unwrap();
    let ended = respond(&folder, id, "centre.toml", "FEE_WAIVER", &examples[3]).await;
    assert!(ended.contains("WITHDRAWN"), "{ended}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_refusal_is_told_in_both_languages_with_what_to_do() {
    let folder = Folder::prepare(Script::TakeOnly);
    let gateway = Gateway::start(&folder).await;
    let said = refused(&folder, &["exchange", "list", "--as", "neighbour.toml"]).await;
    for part in ["PURPOSE_NOT_AGREED", "协议不允许此用途", "--purpose"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let said = refused(&folder, &["exchange", "watch", "--as", "stranger.toml"]).await;
    assert!(said.contains("must be enrolled"), "{said}");

    // A ground that does not fit: the article in Chinese.
    let text = std::fs::read_to_string(folder.file("fee-waiver.json")).unwrap();
    std::fs::write(folder.file("wrong.json"), text.replace("RELIEF_DEFER", "RELIEF_EXEMPT")).unwrap();
    let submit = ["exchange", "submit", "--as", "centre.toml", "--file", "wrong.json"];
    let said = refused(&folder, &submit).await;
    for part in ["GROUND_FITS_RELIEF", "诉讼费用交纳办法 art 45", "（《诉讼费用交纳办法》第45条）"]
    {
        assert!(said.contains(part), "{part} in {said}");
    }

    // An upload that was refused for good is not to be tried again.
    std::fs::write(folder.file("paper.pdf"), "not a PDF").unwrap();
    let said = refused(&folder, &["attachment", "upload", "--as", "court.toml", "paper.pdf"]).await;
    assert!(!said.contains("goes on where"), "{said}");
    gateway.stop().await;
    let said = refused(&folder, &["attachment", "upload", "--as", "court.toml", "paper.pdf"]).await;
    assert!(said.contains("goes on where") && said.matches("cannot connect").count() == 1, "{said}");
}

#[tokio::test]
async fn the_purpose_may_be_given_apart_from_the_file() {
    let folder = Folder::prepare(Script::TakeOnly);
    let gateway = Gateway::start(&folder).await;
    let text = std::fs::read_to_string(folder.file("fee-waiver.json")).unwrap();
    let without = text.replace("    \"purpose\": \"FEE_WAIVER\",\n", "");
    assert_ne!(without, text);
    std::fs::write(folder.file("without.json"), without).unwrap();
    let submit = ["exchange", "submit", "--as", "centre.toml", "--file", "without.json"];
    done(&folder, &submit).await;
    let said = refused(&folder, &[&submit[..], &["--purpose", "COOPERATION"]].concat()).await;
    assert!(said.contains("COUNTERPART") || said.contains("PURPOSE"), "{said}");
    gateway.stop().await;
}

#[tokio::test]
async fn an_auditor_finds_entries_by_kind_and_by_a_person_whose_number_is_not_an_argument() {
    let folder = Folder::prepare(Script::TakeOnly);
    let gateway = Gateway::start(&folder).await;
    done(&folder, &["exchange", "submit", "--as", "centre.toml", "--file", "fee-waiver.json"]).await;
    let list = ["audit", "list", "--as", "auditor.toml", "--json"];
    let found = async |more: &[&str]| {
        let said: Value = serde_json::from_str(&done(&folder, &[&list[..], more].concat()).await).unwrap();
        let entries = said["entries"].as_array().unwrap().iter();
        entries.map(|entry| entry["index"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let of_kind = ["--kind", "FEE_WAIVER", "--method", "SubmitExchange"];
    let (oldest, newest) = (found(&of_kind).await, found(&[&of_kind[..], &["--newest"]].concat()).await);
    assert_eq!(oldest.len(), 2);
    assert_eq!(newest, [oldest[1], oldest[0]]);

    let text: Value =
        serde_json::from_str(&std::fs::read_to_string(folder.file("fee-waiver.json")).unwrap()).unwrap();
    let number = find(&text, "idNumber").unwrap();
    std::fs::write(folder.file("number.txt"), format!("{number}\n")).unwrap();
    let of_person = found(&["--person", "number.txt", "--method", "SubmitExchange"]).await;
    assert_eq!(of_person, [oldest[0]]);
    let said = refused(&folder, &[&list[..], &["--person", "none.txt"]].concat()).await;
    assert!(said.contains("cannot read none.txt"), "{said}");
    let said = refused(&folder, &[&list[..], &["--kind", "WAIVER"]].concat()).await;
    assert!(said.contains("filter.kind"), "{said}");
    gateway.stop().await;
}

/// The first text under a name, anywhere.
fn find<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    match value {
        Value::Object(fields) => fields
            .get(name)
            .and_then(Value::as_str)
            .or_else(|| fields.values().find_map(|inner| find(inner, name))),
        Value::Array(items) => items.iter().find_map(|inner| find(inner, name)),
        _ => None,
    }
}
