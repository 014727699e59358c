//! What is not a race between servers: how the gateway bears overload, dead courts, a full outbox, idle connections, and
//! how soon it is there.

mod delivery;
mod overload;
mod queue;
mod replicas;
mod rest;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::Value;

use crate::load::Work;
use crate::parties::Certificates;
use crate::postgres;

/// A scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scene {
    /// Three times the peak load, and what becomes of it.
    Overload,
    /// Deliveries to a court while another is dead and a third stalls.
    Isolation,
    /// Deliveries a second with a thousand and with a million in the outbox.
    Drain,
    /// Submitted, delivered, receipted, audited.
    Delivered,
    /// One, two and four gateways on one PostgreSQL database.
    Replicas,
    /// Delivered, receipted and audited out of a full outbox on PostgreSQL, beside a raw queue there.
    Queue,
    /// Memory at rest, and with idle connections.
    Memory,
    /// From the start of the process until it serves.
    Start,
}

/// A database for the scenes of deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Outbox {
    /// A file.
    Sqlite,
    /// A PostgreSQL server of the benchmark's own.
    Postgres,
}

impl Outbox {
    /// A new database's URL; `None` for a file.
    pub(crate) fn new_database(self) -> Result<Option<String>> {
        match self {
            Self::Sqlite => Ok(None),
            Self::Postgres => Ok(Some(postgres::database().context("no PostgreSQL is installed")?)),
        }
    }
}

/// How large a scene is to be.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Extent {
    /// Seconds of each load of a scene.
    #[arg(long, default_value_t = 8.0)]
    pub(crate) scene_seconds: f64,
    /// Deliveries in the full outbox.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) queued: usize,
    /// Deliveries that wait in the database that is drained beside a raw queue.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) to_receipt: usize,
    /// Where the outbox of the scenes of deliveries is.
    #[arg(long, value_enum, default_value = "sqlite")]
    pub(crate) outbox: Outbox,
    /// Idle connections.
    #[arg(long, default_value_t = 1_000)]
    pub(crate) idle: usize,
    /// What the overload consists of.
    #[arg(long, value_enum, default_value = "verify")]
    pub(crate) overload_work: Work,
    /// Let the gateway share its core with the load.
    #[arg(long)]
    pub(crate) share_cores: bool,
}

impl Extent {
    /// As small as it gets.
    pub(crate) const SMALL: Self = Self {
        scene_seconds: 0.5,
        queued: 100,
        to_receipt: 100,
        outbox: Outbox::Sqlite,
        idle: 10,
        overload_work: Work::Verify,
        share_cores: true,
    };
}

/// Where a scene plays.
pub(crate) struct Stage {
    pub(crate) certificates: Certificates,
    pub(crate) extent: Extent,
    folder: PathBuf,
}

impl Stage {
    /// A new, empty folder on the disk that is measured.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Clears one away: a million messages take room.
    pub(crate) fn clear(&self, name: &str) -> Result<()> {
        std::fs::remove_dir_all(self.folder(name)).with_context(|| format!("clearing {name} away"))
    }
}

/// Plays scenes one after the other, `rounds` times those that are ratios; returns what each has found.
pub(crate) async fn play(
    scenes: &[Scene],
    rounds: usize,
    extent: Extent,
    folder: &Path,
) -> Result<serde_json::Map<String, Value>> {
    let certificates = Certificates::issue(&folder.join("certificates"))?;
    let stage = Stage { certificates, extent, folder: folder.to_owned() };
    let mut found = serde_json::Map::new();
    for scene in scenes {
        let (name, figures) = match scene {
            Scene::Overload => ("overload", overload::play(&stage, rounds).await?),
            Scene::Isolation => ("isolation", delivery::isolation(&stage, rounds).await?),
            Scene::Drain => ("drain", delivery::drain(&stage).await?),
            Scene::Delivered => ("delivered", delivery::delivered(&stage, rounds).await?),
            Scene::Replicas => ("replicas", replicas::play(&stage, rounds).await?),
            Scene::Queue => ("queue", queue::play(&stage, rounds).await?),
            Scene::Memory => ("memory", rest::memory(&stage).await?),
            Scene::Start => ("start", rest::start(&stage).await?),
        };
        println!("{name}: {}", serde_json::to_string_pretty(&figures)?);
        found.insert(name.to_owned(), figures);
    }
    Ok(found)
}
