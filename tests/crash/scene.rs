//! Who takes part: gateways as processes, their database, a court, and the lines between them.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use legal_aid_gateway::clock::Clock;
use legal_aid_gateway::config::Database;
use legal_aid_gateway::simulator::Serving;
use legal_aid_gateway::simulator::court::{self, Book, Script};
use legal_aid_gateway::simulator::district::free_address;

use super::support::postgres::{self, Server};
use super::support::province::Province;
use super::support::proxy::Proxy;
use super::support::small_disk::SmallDisk;
use super::support::{Folder, Gateway, PATIENCE};

/// Room on the database's disk, in megabytes.
const SQLITE_DISK: u32 = 256;
const POSTGRES_DISK: u32 = 768;

/// Profiles of those who call the gateways.
const CALLERS: [&str; 4] = ["centre.toml", "court.toml", "auditor.toml", "operator.toml"];

/// A gateway's process and what is planned for it.
pub(crate) struct Life {
    pub(crate) gateway: Gateway,
    /// Where it is to end by itself, if the environment says so.
    pub(crate) armed: Option<&'static str>,
}

/// Everything that may be hit.
pub(crate) struct Scene {
    /// Above what it is mounted on.
    pub(crate) disk: Option<SmallDisk>,
    pub(crate) province: Province,
    pub(crate) server: Option<Server>,
    pub(crate) lives: Vec<Life>,
    /// Before the gateways, as a balancer.
    pub(crate) front: Proxy,
    /// Before the court.
    pub(crate) at_court: Proxy,
    /// The court's own ledger.
    pub(crate) book: Book,
    _court: Serving,
    _registry: Serving,
}

impl Scene {
    /// One gateway on SQLite.
    pub(crate) async fn on_sqlite() -> Self {
        let province = Province::prepare_on("data/gateway.db".to_owned(), Script::Defer, 1);
        let data = province.folders[0].file("data");
        fs::create_dir(&data).unwrap();
        let disk = SmallDisk::mount(&data, SQLITE_DISK);
        Self::open(province, None, disk).await
    }

    /// Two gateways on a PostgreSQL server of their own. `None` where there is none.
    pub(crate) async fn on_postgres() -> Option<Self> {
        let mut disk = None;
        let server = postgres::own_server_in(|folder| disk = SmallDisk::mount(folder, POSTGRES_DISK))?;
        let province = Province::prepare_on(server.new_database(), Script::Defer, 2);
        Some(Self::open(province, Some(server), disk).await)
    }

    async fn open(province: Province, server: Option<Server>, disk: Option<SmallDisk>) -> Self {
        let first = &province.folders[0];
        let gateways: Vec<_> =
            province.folders.iter().map(|folder| folder.address_in("gateway.toml")).collect();
        let (front, before_court) = (free_address().unwrap(), free_address().unwrap());
        let court_itself = first.address_in("simulate-court.toml");
        for caller in CALLERS {
            first.edit(caller, &gateways[0].to_string(), &front.to_string());
        }
        for folder in &province.folders {
            folder.edit("directory.toml", &court_itself.to_string(), &before_court.to_string());
            set_clock(folder, 0);
        }
        let (front, at_court) =
            (Proxy::start(front, gateways).await, Proxy::start(before_court, vec![court_itself]).await);
        let book = Book::default();
        let config = court::load(&first.file("simulate-court.toml")).unwrap();
        let court = court::serve_with_book(config, book.clone(), Clock::system()).await.unwrap();
        let registry = first.registry().await;
        let lives = Vec::new();
        let mut scene =
            Self { disk, province, server, lives, front, at_court, book, _court: court, _registry: registry };
        for number in 0..scene.province.folders.len() {
            let life = scene.start(number, None).await.expect("nothing is planned for its start");
            scene.lives.push(life);
        }
        scene
    }

    /// The folder of those who call.
    pub(crate) fn folder(&self) -> &Arc<Folder> {
        &self.province.folders[0]
    }

    pub(crate) fn database(&self) -> Database {
        match Database::parse(&self.province.url) {
            Database::File(path) => self.folder().path().join(path).into(),
            server => server,
        }
    }

    pub(crate) fn key(&self) -> &str {
        &self.lives[0].gateway.log_key
    }

    /// Starts a gateway, perhaps with a fault planned, and waits until it listens. `None` when it has ended by that fault.
    pub(crate) async fn start(&self, number: usize, planned: Option<(&'static str, i64)>) -> Option<Life> {
        let fault = planned.map_or(String::new(), |(point, passes)| format!("{point}=kill@{passes}"));
        let environment = [("LEGAL_AID_GATEWAY_CLOCK", "clock"), ("LEGAL_AID_GATEWAY_FAULT", fault.as_str())];
        let begun = Instant::now();
        loop {
            let node = format!("node-{number}");
            match self.province.try_start_with(number, &node, &environment).await {
                Ok(gateway) => return Some(Life { gateway, armed: planned.map(|(point, _)| point) }),
                // By a signal: the fault.
                Err(refused) if refused.exit_code.is_none() && planned.is_some() => return None,
                // Its database is not back yet, or its place is not free yet.
                Err(refused) => {
                    assert!(begun.elapsed() < PATIENCE, "gateway {number} does not start: {refused:?}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Sets the clock of a gateway's process so far ahead of the system's, or back.
    pub(crate) fn set_clock(&self, number: usize, ahead: Duration, back: bool) {
        let micros = i64::try_from(ahead.as_micros()).unwrap();
        set_clock(&self.province.folders[number], if back { -micros } else { micros });
    }
}

fn set_clock(folder: &Folder, micros: i64) {
    let fresh = folder.file("clock.new");
    fs::write(&fresh, micros.to_string()).unwrap();
    fs::rename(fresh, folder.file("clock")).unwrap();
}
