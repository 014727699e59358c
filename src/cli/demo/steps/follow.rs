//! The centre follows its exchanges from the beginning on.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::Status;

use super::{PATIENCE, Told, Walk, index};
use crate::client::AgencyClient;
use crate::grpc::proto;
use crate::grpc::proto::{ExchangeChange, ExchangeState};
use crate::setup::purposes;

/// After so many changes the watch is broken off and begun again from its cursor.
const BREAK_AFTER: u32 = 3;

/// A watch that runs beside the steps.
pub(super) struct Follower {
    items: mpsc::UnboundedReceiver<proto::WatchExchangesResponse>,
    task: JoinHandle<()>,
}

impl Follower {
    pub(super) fn start(client: AgencyClient) -> Self {
        let (tell, items) = mpsc::unbounded_channel();
        // What ends the watch ends the channel, which its reader notices.
        let task = tokio::spawn(async move {
            let _ = follow(&client, &tell).await;
        });
        Self { items, task }
    }

    pub(super) fn stop(&self) {
        self.task.abort();
    }
}

async fn follow(
    client: &AgencyClient,
    tell: &mpsc::UnboundedSender<proto::WatchExchangesResponse>,
) -> Result<(), Status> {
    let (mut cursor, mut seen) = (String::new(), 0);
    loop {
        let request = proto::WatchExchangesRequest {
            context: Some(client.context(purposes::FEE_WAIVER)),
            cursor: cursor.clone(),
        };
        let mut items = client.exchanges().watch_exchanges(request).await?.into_inner();
        while let Some(item) = items.message().await? {
            cursor.clone_from(&item.cursor);
            seen += u32::from(item.event.is_some());
            let breaks = item.event.is_some() && seen == BREAK_AFTER;
            if tell.send(item).is_err() {
                return Ok(());
            }
            if breaks {
                break;
            }
        }
    }
}

/// What was seen of one exchange.
#[derive(Default)]
struct Seen {
    /// Messages, in the order in which they were shown.
    messages: Vec<u32>,
    /// State after the last.
    state: ExchangeState,
}

impl Walk {
    pub(in crate::cli::demo) async fn changes_watched(&mut self) -> anyhow::Result<Told> {
        ensure!(!self.ended.is_empty(), "no exchange came to its end");
        let expected: BTreeMap<String, u32> = self.ended.clone();
        let (mut seen, mut changes, mut begun) = (BTreeMap::<String, Seen>::new(), 0, Vec::new());
        let all = |seen: &BTreeMap<String, Seen>| {
            expected.iter().all(|(id, length)| {
                seen.get(id).is_some_and(|seen| seen.messages.last().is_some_and(|last| last >= length))
            })
        };
        while !all(&seen) {
            let item = tokio::time::timeout(PATIENCE, self.follower.items.recv()).await;
            let item = item.context("a change was not shown")?.context("the watch ended")?;
            begun.extend(index(item.audit.as_ref()));
            let Some(event) = item.event else { continue };
            changes += 1;
            if matches!(event.change(), ExchangeChange::Opened | ExchangeChange::MessageAdded) {
                let state = event.state();
                let seen = seen.entry(event.exchange_id).or_default();
                seen.messages.push(event.message_sequence);
                seen.state = state;
            }
        }
        self.follower.stop();
        for (id, length) in &expected {
            let seen = &seen[id];
            ensure!(seen.messages.iter().copied().eq(1..=*length), "messages {:?} were shown", seen.messages);
            ensure!(seen.state == ExchangeState::Decided, "it ended as {}", seen.state.as_str_name());
        }
        ensure!(begun.len() == 2, "the watch was begun {} times", begun.len());
        let exchanges = expected.len();
        Ok(Told {
            title: ("跟踪办件变化", "changes watched from the start"),
            parties: ("网关 → 援助中心", "gateway → centre"),
            result: (
                format!("{exchanges}件办件的{changes}次变化，直到决定；中途断开一次，凭游标续看，不漏不重"),
                format!(
                    "{changes} changes of {exchanges} exchanges, to the end; broken off once, resumed: each seen once"
                ),
            ),
            log_index: begun.first().copied(),
        })
    }
}
