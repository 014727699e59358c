//! `exchange watch`: one line for each change, from a cursor on.

use std::time::Duration;

use clap::Args;
use serde_json::json;
use tonic::{Code, Status};

use super::{Caller, show_time};
use crate::cli::output::{ACCESS_DENIED, explain, say};
use crate::client::AgencyClient;
use crate::grpc::json::to_json;
use crate::grpc::proto;

/// Wait before a stream that broke is begun again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Arguments of `exchange watch`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Watch {
    #[command(flatten)]
    caller: Caller,
    /// Cursor of an earlier line: what came after it follows. Else it begins with the oldest change that is kept.
    #[arg(long = "from", value_name = "CURSOR", default_value = "")]
    cursor: String,
    /// End after so many changes.
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
}

impl Watch {
    pub(super) async fn run(mut self) -> anyhow::Result<()> {
        let client = self.caller.client()?;
        let mut left = self.limit.unwrap_or(u64::MAX);
        let mut waiting = false;
        while left > 0 {
            match self.follow(&client, &mut left).await {
                // A stream that lived as long as it may, or broke, goes on from the newest cursor.
                Ok(()) => waiting = false,
                Err(status) => {
                    let told = explain(&status);
                    if !is_passing(&status) || told.to_string().contains(ACCESS_DENIED) {
                        return Err(told);
                    }
                    let is_away = matches!(status.code(), Code::Unavailable | Code::Unknown);
                    if is_away && !waiting {
                        eprintln!("{told}\n  trying again until it answers");
                    }
                    waiting = is_away;
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
            }
        }
        Ok(())
    }

    async fn follow(&mut self, client: &AgencyClient, left: &mut u64) -> Result<(), Status> {
        let request = proto::WatchExchangesRequest {
            context: Some(client.context(&self.caller.purpose)),
            cursor: self.cursor.clone(),
        };
        let mut items = client.exchanges().watch_exchanges(request).await?.into_inner();
        while *left > 0
            && let Some(item) = items.message().await?
        {
            self.cursor = item.cursor;
            if let Some(event) = &item.event {
                self.show(event);
                *left -= 1;
            }
        }
        Ok(())
    }

    fn show(&self, event: &proto::ExchangeEvent) {
        if self.caller.json {
            let event = to_json("ExchangeEvent", event).unwrap_or_default();
            say(json!({"event": event, "cursor": self.cursor}));
            return;
        }
        let change = proto::ExchangeChange::try_from(event.change).unwrap_or_default();
        let state = proto::ExchangeState::try_from(event.state).unwrap_or_default();
        say(format_args!(
            "{} {} #{} {} {} {}",
            event.change_time.as_ref().map(show_time).unwrap_or_default(),
            event.exchange_id,
            event.message_sequence,
            change.as_str_name().trim_start_matches("EXCHANGE_CHANGE_"),
            state.as_str_name().trim_start_matches("EXCHANGE_STATE_"),
            self.cursor,
        ));
    }
}

/// Whether a stream that ended so may be begun again.
fn is_passing(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Unknown
            | Code::ResourceExhausted
    )
}
