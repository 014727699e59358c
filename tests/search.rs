//! Searching the audit log as an auditor does: what was answered is found, by each key, in both orders, and the search
//! leaves a trace that names no person.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod district;

use district::{DEADLINE, Refused, Scene};
use legal_aid_gateway::audit::entry::{Entry, Phase};
use legal_aid_gateway::config::Config;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::setup::{codes, purposes};
use tonic::{Code, Status};

/// Lists a page as the auditor.
async fn list(
    scene: &Scene,
    filter: proto::EntryFilter,
    page_size: i32,
    page_token: &str,
    newest_first: bool,
) -> Result<proto::ListEntriesResponse, Status> {
    let request = proto::ListEntriesRequest {
        context: Some(scene.auditor.context(purposes::AUDIT_INSPECTION)),
        filter: Some(filter),
        page_size,
        page_token: page_token.to_owned(),
        newest_first,
    };
    let answer = scene.auditor.audit().list_entries(scene.auditor.request(request, DEADLINE)).await;
    answer.map(tonic::Response::into_inner)
}

fn subject_of(question: &proto::VerifyLowIncomeRequest) -> proto::PersonFilter {
    let subject = question.query.as_ref().unwrap().subject.as_ref().unwrap();
    proto::PersonFilter { id_kind: subject.id_kind, id_number: subject.id_number.clone() }
}

#[tokio::test]
async fn what_was_answered_is_found_by_each_of_its_keys() {
    let scene = Scene::start().await;
    for _ in 0..10 {
        let answer = scene.submit(&scene.fee_waiver()).await.unwrap();
        let (end, exchange_id) = (answer.audit.unwrap().log_index, answer.exchange.unwrap().exchange_id);
        let ended = scene.entry(end).await;
        let request = scene.entry(ended.request_index.unwrap()).await;
        let text = |value: &Option<String>| value.clone().unwrap();
        let of_both = [
            proto::EntryFilter { request_id: ended.request.unwrap().to_string(), ..Default::default() },
            proto::EntryFilter { exchange_id, ..Default::default() },
            proto::EntryFilter { caller: codes::CENTRE.to_owned(), ..Default::default() },
            proto::EntryFilter { counterpart: codes::COURT.to_owned(), ..Default::default() },
            proto::EntryFilter { kind: "FEE_WAIVER".to_owned(), ..Default::default() },
            proto::EntryFilter { code: "OK".to_owned(), phase: "RESPONSE".to_owned(), ..Default::default() },
            proto::EntryFilter {
                method: "legalaid.exchange.v1.ExchangeService/SubmitExchange".to_owned(),
                ..Default::default()
            },
        ];
        for filter in of_both {
            let newest = list(&scene, filter, 20, "", true).await.unwrap().entries;
            assert!(newest.iter().any(|stored| stored.index == end), "{end}");
        }
        let of_the_request = [
            proto::EntryFilter { unit: text(&request.unit), ..Default::default() },
            proto::EntryFilter { operator: text(&request.operator), ..Default::default() },
            proto::EntryFilter { purpose: text(&request.purpose), ..Default::default() },
            proto::EntryFilter { matter_id: text(&request.matter), ..Default::default() },
            proto::EntryFilter { phase: "REQUEST".to_owned(), ..Default::default() },
        ];
        for filter in of_the_request {
            let newest = list(&scene, filter, 20, "", true).await.unwrap().entries;
            assert!(newest.iter().any(|stored| Some(stored.index) == ended.request_index));
        }
    }
    scene.stop().await;
}

#[tokio::test]
async fn pages_of_either_order_give_every_entry_once_and_a_token_holds_for_its_order() {
    let scene = Scene::start().await;
    for _ in 0..12 {
        scene.submit(&scene.fee_waiver()).await.unwrap();
    }
    let filter = || proto::EntryFilter { method: "SubmitExchange".to_owned(), ..Default::default() };
    let mut orders = Vec::new();
    for newest_first in [false, true] {
        let (mut found, mut token) = (Vec::new(), String::new());
        loop {
            let page = list(&scene, filter(), 5, &token, newest_first).await.unwrap();
            assert!(page.entries.len() == 5 || page.next_page_token.is_empty());
            found.extend(page.entries.iter().map(|stored| stored.index));
            if page.next_page_token.is_empty() {
                break;
            }
            token = page.next_page_token;
            let refused = list(&scene, filter(), 5, &token, !newest_first).await.err().unwrap();
            assert_eq!(Refused::of(&refused).rules(), [("page_token", "PAGE_TOKEN")]);
        }
        assert_eq!(found.len(), 24);
        orders.push(found);
    }
    assert!(orders[0].is_sorted());
    orders[1].reverse();
    assert_eq!(orders[0], orders[1]);
    scene.stop().await;
}

#[tokio::test]
async fn a_person_is_found_and_the_search_names_nobody() {
    let scene = Scene::start().await;
    let question = scene.question();
    scene.verify(&question).await.unwrap();
    let person = subject_of(&question);
    let by_person = || proto::EntryFilter { person: Some(person.clone()), ..Default::default() };
    let found = list(&scene, by_person(), 1, "", false).await.unwrap();
    let entry = Entry::from_json(&found.entries[0].entry).unwrap();
    assert_eq!((entry.method.as_ref(), entry.phase), ("VerifyLowIncome", Phase::Request));
    let pseudonym = entry.subject.unwrap();

    // By the pseudonym the same is found, and both searches, which were about this person.
    let by_pseudonym = proto::EntryFilter { subject: pseudonym.clone(), ..Default::default() };
    let searched = list(&scene, by_pseudonym, 10, "", false).await.unwrap();
    let indices: Vec<u64> = searched.entries.iter().map(|stored| stored.index).collect();
    assert_eq!(indices, [found.entries[0].index, found.audit.unwrap().log_index]);
    for (index, by) in [(indices[1], "person"), (searched.audit.unwrap().log_index, "subject")] {
        let read = scene.entry(index).await;
        assert_eq!(read.search.as_deref(), Some(by));
        assert_eq!(read.purpose.as_deref(), Some(purposes::AUDIT_INSPECTION));
        assert_eq!(read.subject.as_deref(), Some(pseudonym.as_str()));
    }

    // Neither a page token nor an error nor the log holds the document.
    let number = person.id_number.clone();
    let page = list(&scene, by_person(), 1, "", false).await.unwrap();
    let token = data_encoding::BASE64URL_NOPAD.decode(page.next_page_token.as_bytes()).unwrap();
    assert_eq!(token.len(), 24);
    let mut wrong = person.clone();
    wrong.id_number.replace_range(17.., if number.ends_with('1') { "2" } else { "1" });
    let filter = proto::EntryFilter { person: Some(wrong.clone()), ..Default::default() };
    let refused = list(&scene, filter, 1, "", false).await.err().unwrap();
    assert_eq!(Refused::of(&refused).rules(), [("filter.person.id_number", "RESIDENT_ID_CHECK")]);
    let both = proto::EntryFilter { subject: pseudonym, ..by_person() };
    let refused_too = list(&scene, both, 1, "", false).await.err().unwrap();
    assert_eq!(Refused::of(&refused_too).rules(), [("filter.person", "PERSON_OR_SUBJECT")]);
    for said in [format!("{refused:?}"), format!("{refused_too:?}")] {
        assert!(!said.contains(&number) && !said.contains(&wrong.id_number));
    }
    for (_, entry) in scene.entries(proto::EntryFilter::default()).await {
        let text = String::from_utf8(entry.to_canonical_json().unwrap()).unwrap();
        assert!(!text.contains(&number) && !text.contains(&wrong.id_number));
    }
    scene.stop().await;
}

#[tokio::test]
async fn a_filter_that_can_match_nothing_is_refused_field_by_field() {
    let scene = Scene::start().await;
    let filter = proto::EntryFilter {
        unit: "two words".to_owned(),
        operator: "two words".to_owned(),
        reason: "lower".to_owned(),
        purpose: "two words".to_owned(),
        kind: "UNKNOWN".to_owned(),
        subject: "XY".to_owned(),
        delivery_id: "1".to_owned(),
        request_id: "1".to_owned(),
        ..Default::default()
    };
    let refused = Refused::of(&list(&scene, filter, 10, "", false).await.err().unwrap());
    let fields = ["unit", "operator", "reason", "purpose", "kind", "subject", "delivery_id", "request_id"];
    assert_eq!(refused.code, Code::InvalidArgument);
    assert_eq!(
        refused.rules(),
        fields
            .map(|field| (format!("filter.{field}"), "UNKNOWN_VALUE"))
            .iter()
            .map(|(field, rule)| (field.as_str(), *rule))
            .collect::<Vec<_>>()
    );
    scene.stop().await;
}

#[tokio::test]
async fn a_search_goes_on_after_a_restart_and_without_the_index() {
    let mut scene = Scene::start().await;
    let filter = || proto::EntryFilter { caller: codes::CENTRE.to_owned(), ..Default::default() };
    let answer = scene.submit(&scene.fee_waiver()).await.unwrap();
    let before = list(&scene, filter(), 100, "", false).await.unwrap().entries;
    scene = scene.restart().await;
    let after = list(&scene, filter(), 100, "", false).await.unwrap().entries;
    assert!(before[..] == after[..before.len()]);
    assert!(after.iter().any(|stored| stored.index == answer.audit.unwrap().log_index));
    let index = Config::load(&scene.folder.join("gateway.toml"), []).unwrap().store.search_index();
    assert!(index.is_file());
    std::fs::write(&index, "no index").unwrap();
    scene = scene.restart().await;
    let mended = list(&scene, filter(), 100, "", false).await.unwrap().entries;
    assert!(before[..] == mended[..before.len()]);
    scene.stop().await;
}
