//! Clients that ask, tell and read without a pause, whatever happens to the gateway.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use legal_aid_gateway::client::AgencyClient;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::setup::purposes;

use super::ledger::Ledger;
use super::support::{Folder, PATIENCE};

/// Exchanges that may be opened in one life of a gateway, so that the court keeps up.
const EXCHANGES_A_LIFE: usize = 6;

/// The clients, while they call.
pub(crate) struct Load {
    pub(crate) ledger: Arc<Ledger>,
    clients: tokio::task::JoinSet<()>,
}

impl Load {
    pub(crate) fn begin(folder: &Arc<Folder>) -> Self {
        let ledger = Arc::new(Ledger::new());
        let mut clients = tokio::task::JoinSet::new();
        for _ in 0..3 {
            clients.spawn(verify(Arc::clone(&ledger), Arc::clone(folder)));
            clients.spawn(submit(Arc::clone(&ledger), Arc::clone(folder)));
        }
        clients.spawn(take_deliveries(Arc::clone(&ledger), Arc::clone(folder)));
        clients.spawn(keep_checkpoints(Arc::clone(&ledger), Arc::clone(folder)));
        Self { ledger, clients }
    }

    /// Lets each client get the answer it waits for.
    pub(crate) async fn end(mut self) -> Arc<Ledger> {
        self.ledger.end();
        let all = async {
            while let Some(client) = self.clients.join_next().await {
                client.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, all).await.expect("every client gets its answer");
        self.ledger
    }
}

async fn verify(ledger: Arc<Ledger>, folder: Arc<Folder>) {
    let centre = folder.client("centre");
    for round in 0.. {
        if ledger.is_over() {
            return;
        }
        let request = folder.question(&centre);
        let id = request.envelope.clone().unwrap().request_id;
        let call = |request| {
            let centre = centre.clone();
            async move { centre.verification().verify_low_income(request).await }
        };
        let first = ledger.until_answered(&centre, &request, &id, call).await;
        if round % 4 == 0 {
            let again = ledger.until_answered(&centre, &request, &id, call).await;
            assert!(first == again, "a retry of {id} got another answer");
            ledger.replayed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn submit(ledger: Arc<Ledger>, folder: Arc<Folder>) {
    let centre = folder.client("centre");
    while !ledger.is_over() {
        let mut lives = ledger.lives.subscribe();
        let most = EXCHANGES_A_LIFE * (usize::try_from(*lives.borrow_and_update()).unwrap() + 1);
        if ledger.opened.fetch_add(1, Ordering::Relaxed) >= most {
            ledger.opened.fetch_sub(1, Ordering::Relaxed);
            read_one(&ledger, &centre).await;
            continue;
        }
        let request = folder.fee_waiver(&centre);
        let id = request.envelope.clone().unwrap().request_id;
        ledger.submissions.lock().unwrap().insert(id.clone(), (request.clone(), None));
        let first = ledger.submit(&centre, &request).await;
        let exchange_id = first.exchange.unwrap().exchange_id;
        ledger.submissions.lock().unwrap().get_mut(&id).unwrap().1 = Some(exchange_id);
        read_one(&ledger, &centre).await;
    }
}

/// Reads an exchange that was acknowledged.
async fn read_one(ledger: &Ledger, centre: &AgencyClient) {
    let acknowledged = |ledger: &Ledger| {
        ledger.submissions.lock().unwrap().values().rev().find_map(|(_, exchange_id)| exchange_id.clone())
    };
    if let Some(exchange_id) = acknowledged(ledger) {
        ledger.read(centre, &exchange_id).await;
    }
}

async fn take_deliveries(ledger: Arc<Ledger>, folder: Arc<Folder>) {
    let centre = folder.client("centre");
    while !ledger.is_over() {
        ledger.take_deliveries(&centre).await;
    }
}

async fn keep_checkpoints(ledger: Arc<Ledger>, folder: Arc<Folder>) {
    let auditor = folder.client("auditor");
    while !ledger.is_over() {
        let context = auditor.context(purposes::AUDIT_INSPECTION);
        let id = context.request_id.clone();
        let request = proto::GetCheckpointRequest { context: Some(context) };
        let call = |request| {
            let auditor = auditor.clone();
            async move { auditor.audit().get_checkpoint(request).await }
        };
        let answer = ledger.until_answered(&auditor, &request, &id, call).await;
        ledger.checkpoints.lock().unwrap().insert(answer.checkpoint);
        // Each call is a batch of its own; between them others shall have their turn.
        let _ = tokio::time::timeout(Duration::from_millis(20), ledger.lives.subscribe().changed()).await;
    }
}
