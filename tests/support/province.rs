//! Several gateways of one organ on one PostgreSQL database.

#![allow(dead_code, reason = "each test takes the part of this room that it needs")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use legal_aid_gateway::client::AgencyClient;
use legal_aid_gateway::config::Database;
use legal_aid_gateway::simulator::court::Script;
use legal_aid_gateway::simulator::district::free_address;

use super::{Folder, Gateway, PATIENCE, Refused, log, postgres};

/// A database, and folders from which gateways run on it: one organ's keys and directory, each its own address.
pub(crate) struct Province {
    pub(crate) url: String,
    pub(crate) folders: Vec<Arc<Folder>>,
}

impl Province {
    /// On a server that tests share. `None` where there is no PostgreSQL; that is told.
    pub(crate) fn prepare(script: Script, gateways: usize) -> Option<Self> {
        Some(Self::prepare_on(postgres::database()?, script, gateways))
    }

    /// On a database of its own.
    pub(crate) fn prepare_on(url: String, script: Script, gateways: usize) -> Self {
        let first = Arc::new(Folder::prepare(script));
        let mut folders = Vec::new();
        for _ in 1..gateways {
            let folder = Folder::empty();
            copy(first.path(), folder.path());
            let old = first.address_in("gateway.toml").to_string();
            let new = free_address().unwrap().to_string();
            for file in fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path()) {
                if file.extension().is_some_and(|extension| extension == "toml") {
                    fs::write(&file, fs::read_to_string(&file).unwrap().replace(&old, &new)).unwrap();
                }
            }
            folders.push(Arc::new(folder));
        }
        folders.insert(0, first);
        Self { url, folders }
    }

    pub(crate) async fn start(&self, number: usize) -> Gateway {
        self.try_start(number, &format!("node-{number}"))
            .await
            .unwrap_or_else(|refused| panic!("{refused:?}"))
    }

    pub(crate) async fn start_all(&self) -> Vec<Gateway> {
        let mut gateways = Vec::new();
        for number in 0..self.folders.len() {
            gateways.push(self.start(number).await);
        }
        gateways
    }

    /// The names of all its nodes.
    pub(crate) fn nodes(&self) -> BTreeSet<String> {
        (0..self.folders.len()).map(|number| format!("node-{number}")).collect()
    }

    pub(crate) async fn try_start(&self, number: usize, node: &str) -> Result<Gateway, Refused> {
        self.try_start_with(number, node, &[]).await
    }

    /// The same, with settings of its own.
    pub(crate) async fn try_start_with(
        &self,
        number: usize,
        node: &str,
        more: &[(&str, &str)],
    ) -> Result<Gateway, Refused> {
        let own = [
            ("LEGAL_AID_GATEWAY__GATEWAY__NODE", node),
            ("LEGAL_AID_GATEWAY__STORE__DATABASE", self.url.as_str()),
        ];
        Gateway::try_start(&self.folders[number], &[&own, more].concat()).await
    }

    pub(crate) fn centre(&self, number: usize) -> AgencyClient {
        self.folders[number].client("centre")
    }

    pub(crate) async fn log(&self, key: &str) -> log::Log {
        let found = log::read(Database::parse(&self.url), key, &[]).await;
        assert!(found.report.is_sound(), "{:?}", found.report.findings);
        let order: Vec<_> = found.entries.iter().map(|entry| entry.recorded).collect();
        assert!(order.is_sorted(), "an entry is recorded before one that stands before it");
        found
    }

    /// Waits until every REQUEST has ended, and returns the log.
    pub(crate) async fn all_ended(&self, key: &str) -> log::Log {
        let begun = Instant::now();
        loop {
            let found = self.log(key).await;
            if found.open().is_empty() {
                assert!(found.ends().values().all(|ends| ends.len() == 1), "{:?}", found.ends());
                return found;
            }
            assert!(begun.elapsed() < PATIENCE, "these never end: {:?}", found.open());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn copy(from: &Path, to: &Path) {
    for file in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(file.file_name());
        if file.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&file.path(), &target);
        } else {
            fs::copy(file.path(), target).unwrap();
        }
    }
}
