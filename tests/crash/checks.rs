//! What must hold afterwards, by the clients' ledger, the court's book, the log and the database.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use legal_aid_gateway::audit::entry::{Entry, Phase};
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::store::Store;

use super::ledger::Ledger;
use super::scene::Scene;
use super::support::{PATIENCE, log, records};

/// Checkpoints that the command line is given; all are given to the library.
const ON_THE_COMMAND_LINE: usize = 200;

/// What was looked at.
pub(crate) struct Checked {
    pub(crate) exchanges: usize,
    pub(crate) answers: usize,
    pub(crate) refusals: usize,
    pub(crate) checkpoints: usize,
    pub(crate) entries: usize,
    pub(crate) interrupted: usize,
    pub(crate) handed_over_again: u64,
}

/// Looks up the answers noted since `from`, in the database of the gateways that came back.
pub(crate) async fn new_answers(scene: &Scene, ledger: &Ledger, from: usize) -> usize {
    let new = ledger.answers()[from..].to_vec();
    let store = Store::open_audit_log(scene.database()).await.unwrap();
    for answer in &new {
        let stored = store.entry(answer.index).await.unwrap();
        let entry = stored.unwrap_or_else(|| panic!("no entry of {answer:?}")).entry;
        answer.check_entry(&Entry::from_json(&entry).unwrap());
    }
    store.close().await;
    from + new.len()
}

/// Checks everything, and stops the gateways in between.
pub(crate) async fn everything(scene: Scene, ledger: &Ledger) -> Checked {
    let exchanges = all_are_decided(&scene, ledger).await;
    everything_has_arrived(&scene, ledger).await;
    retries_get_the_first_outcome(&scene, ledger).await;
    let handed_over_again = the_court_has_each_once(&scene, ledger);
    the_centre_has_each_once(ledger, exchanges);
    let key = scene.key().to_owned();
    let scene = stopped(scene).await;
    let (folder, database, url) = (scene.folder(), scene.database(), scene.province.url.as_str());
    let open = "SELECT COUNT(*) FROM claims c WHERE NOT EXISTS \
                (SELECT 1 FROM outcomes o WHERE o.request_index = c.request_index)";
    assert_eq!(records::count(&database, open).await, 0, "a request id is held by no call");

    let checkpoints = ledger.checkpoints();
    let found = log::read(database.clone(), &key, &checkpoints).await;
    assert!(found.report.is_sound(), "{:?}", found.report.findings);
    assert_eq!(found.report.earlier_checked, checkpoints.len() as u64);
    let order: Vec<_> = found.entries.iter().map(|entry| entry.recorded).collect();
    assert!(order.is_sorted(), "an entry is recorded before one that stands before it");
    for (request, ends) in found.ends() {
        let entry = &found.entries[usize::try_from(request).unwrap()];
        assert_eq!(ends.len(), 1, "REQUEST {request} has the ends {ends:?}: {entry:?}");
    }
    let salts = log::salts(&database).await;
    let (answers, refusals) = (ledger.answers(), ledger.refusals());
    answers.iter().for_each(|answer| answer.check(&found.entries, &salts));
    refusals.iter().for_each(|refused| refused.check(&found.entries));

    let mut verify = vec!["audit", "verify", url, "--key", &key];
    let kept: Vec<_> = (0..checkpoints.len().min(ON_THE_COMMAND_LINE)).map(|n| format!("kept-{n}")).collect();
    for (name, note) in kept.iter().zip(&checkpoints) {
        std::fs::write(folder.file(name), note).unwrap();
        verify.extend(["--checkpoint", name]);
    }
    for arguments in [verify, vec!["audit", "fsck", url, "--key", &key]] {
        let output = folder.run(&arguments).await;
        assert!(output.status.success(), "{output:?}");
    }
    Checked {
        exchanges,
        answers: answers.len(),
        refusals: refusals.len(),
        checkpoints: checkpoints.len(),
        entries: found.entries.len(),
        interrupted: found.count(Phase::Interrupted),
        handed_over_again,
    }
}

/// Stops the gateways in order.
async fn stopped(mut scene: Scene) -> Scene {
    for life in std::mem::take(&mut scene.lives) {
        life.gateway.stop().await;
    }
    scene
}

/// No acknowledged exchange is lost, none is doubled, and the court has decided each. Returns how many there are.
async fn all_are_decided(scene: &Scene, ledger: &Ledger) -> usize {
    let centre = scene.folder().client("centre");
    let begun = Instant::now();
    loop {
        let exchanges = ledger.list(&centre).await;
        let open: Vec<_> =
            exchanges.iter().filter(|exchange| exchange.state() != proto::ExchangeState::Decided).collect();
        if open.is_empty() {
            assert_eq!(exchanges.len(), ledger.submissions.lock().unwrap().len(), "one for each request id");
            return exchanges.len();
        }
        let example = (&open[0].exchange_id, open[0].state().as_str_name());
        assert!(begun.elapsed() < 2 * PATIENCE, "{} are not decided, such as {example:?}", open.len());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The outbox empties: no lease is stuck, nothing is forgotten.
async fn everything_has_arrived(scene: &Scene, ledger: &Ledger) {
    let (centre, operator) = (scene.folder().client("centre"), scene.folder().client("operator"));
    let begun = Instant::now();
    loop {
        ledger.take_deliveries(&centre).await;
        let waiting = ledger.waiting(&operator).await;
        let Some(first) = waiting.first() else { return };
        let example = (&first.delivery_id, first.state().as_str_name(), first.attempts);
        assert!(begun.elapsed() < PATIENCE, "{} are stuck, such as {example:?}", waiting.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn retries_get_the_first_outcome(scene: &Scene, ledger: &Ledger) {
    let centre = scene.folder().client("centre");
    let submissions = ledger.submissions.lock().unwrap().clone();
    let mut seen = HashMap::new();
    for (request_id, (request, exchange_id)) in &submissions {
        let exchange_id = exchange_id.clone().expect("every submission was answered in the end");
        let again = ledger.submit(&centre, request).await;
        assert_eq!(again.exchange.unwrap().exchange_id, exchange_id, "request {request_id}");
        assert_eq!(seen.insert(exchange_id.clone(), request_id), None, "two requests, one exchange");
        let thread = ledger.read(&centre, &exchange_id).await.thread;
        assert_eq!(thread[0].envelope.clone().unwrap().request_id, *request_id);
        assert_eq!(thread.len(), 3, "request, receipt and decision, each once");
    }
}

/// Returns how often something was handed over that the court had already.
fn the_court_has_each_once(scene: &Scene, ledger: &Ledger) -> u64 {
    let book = scene.book.entries();
    let submissions = ledger.submissions.lock().unwrap();
    let acknowledged: BTreeSet<_> =
        submissions.values().map(|(_, exchange_id)| exchange_id.clone().unwrap()).collect();
    let mut taken = BTreeMap::new();
    for (delivery_id, entry) in &book {
        let before = taken.insert(entry.exchange_id.clone(), delivery_id);
        assert_eq!(before, None, "exchange {} had effect twice", entry.exchange_id);
    }
    assert!(taken.into_keys().eq(acknowledged), "what the court has is not what was acknowledged");
    book.values().map(|entry| entry.handed_over - 1).sum()
}

/// Of each exchange the court's receipt and its decision.
fn the_centre_has_each_once(ledger: &Ledger, exchanges: usize) {
    let acknowledged = ledger.acknowledged.lock().unwrap();
    let messages: BTreeSet<_> = acknowledged.values().collect();
    assert_eq!(messages.len(), acknowledged.len(), "a message came under two delivery ids");
    assert_eq!(messages.len(), 2 * exchanges, "a receipt and a decision of each");
}
