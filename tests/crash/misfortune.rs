//! What happens to the gateways and to what they work with, by chance.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::chance::Dice;
use super::ledger::Ledger;
use super::scene::{Life, Scene};
use super::support::proxy::Mishap;
use super::support::{self, postgres};

/// Points that a gateway passes while it works, and how often it may pass them before it ends there.
const AT_WORK: [(&str, i64); 14] = [
    ("request.durable", 30),
    ("answer.durable", 20),
    ("lease.taken", 5),
    ("delivery.sent", 5),
    ("batch.prepared", 40),
    ("batch.signed", 40),
    ("commit.begin", 40),
    ("commit.effects", 15),
    ("commit.rows", 15),
    ("commit.done", 40),
    ("batch.committed", 40),
    ("batch.published", 40),
    ("checkpoint.begin", 2),
    ("checkpoint.written", 2),
];

const IN_DRAIN: [&str; 3] = ["drain.begun", "drain.finished", "drain.closed"];

const IN_START: [&str; 4] = ["start.joined", "start.loaded", "start.checked", "start.released"];

/// How long a gateway with a fault planned may go on until it is killed all the same.
const NOT_REACHED: Duration = Duration::from_secs(4);

/// How long a full disk may go unnoticed.
const STILL_ROOM: Duration = Duration::from_secs(6);

/// How far a clock is set, in milliseconds.
const CLOCK: (i64, i64) = (-8_000, 15_000);

/// What has happened, and how often.
#[derive(Default)]
pub(crate) struct Tally {
    /// Sudden ends of a gateway or of the database.
    pub(crate) kills: u64,
    counts: BTreeMap<String, u64>,
}

impl Tally {
    fn kill(&mut self, how: impl Into<String>) {
        self.kills += 1;
        self.note(how);
    }

    fn note(&mut self, what: impl Into<String>) {
        *self.counts.entry(what.into()).or_default() += 1;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, times) in &self.counts {
            writeln!(formatter, "  {times:>4} {what}")?;
        }
        Ok(())
    }
}

impl Scene {
    /// Something that kills nobody, and that has passed when this returns.
    pub(crate) async fn mishap(&mut self, ledger: &Ledger, dice: &mut Dice, tally: &mut Tally) {
        let number = dice.choose(&self.numbers());
        match dice.between(0, 10) {
            0 => {
                tally.note("gateway paused");
                self.lives[number].gateway.signal("-STOP").await;
                dice.pause(Duration::from_millis(50), Duration::from_millis(1_500)).await;
                self.lives[number].gateway.signal("-CONT").await;
            }
            1 => {
                tally.note("clock set");
                let millis = dice.between(CLOCK.0, CLOCK.1);
                self.set_clock(number, Duration::from_millis(millis.unsigned_abs()), millis < 0);
            }
            2 => self.fill_disk(ledger, tally).await,
            3 if self.server.is_some() => {
                tally.note("connections to the database cut");
                postgres::try_psql(
                    &self.province.url,
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                     WHERE datname = current_database() AND pid <> pg_backend_pid()",
                );
            }
            _ => self.line_fails(dice, tally).await,
        }
    }

    async fn line_fails(&self, dice: &mut Dice, tally: &mut Tally) {
        let (proxy, between) =
            dice.choose(&[(&self.front, "clients and gateways"), (&self.at_court, "gateways and the court")]);
        let brief = Duration::from_millis(dice.between(20, 600).unsigned_abs());
        match dice.between(0, 4) {
            0 => {
                tally.note(format!("connections between {between} cut"));
                proxy.cut();
            }
            1 => {
                tally.note(format!("requests between {between} lost"));
                proxy.suffers(Mishap::LosesAll, brief).await;
            }
            2 => {
                tally.note(format!("nobody there between {between}"));
                proxy.suffers(Mishap::IsAway, brief).await;
            }
            _ => {
                tally.note(format!("replies between {between} lost"));
                proxy.suffers(Mishap::LosesReplies, brief).await;
            }
        }
    }

    /// Until a client was told so.
    async fn fill_disk(&self, ledger: &Ledger, tally: &mut Tally) {
        let Some(disk) = &self.disk else { return };
        let unwritten = || ledger.unwritten.load(Ordering::SeqCst);
        let (before, begun) = (unwritten(), Instant::now());
        disk.fill();
        // What was written before leaves room in the database's own files for a while.
        while unwritten() == before && begun.elapsed() < STILL_ROOM {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        disk.make_room();
        tally.note(if unwritten() == before { "disk full, and nobody was refused" } else { "disk full" });
        if let Some(server) = &self.server {
            server.come_back();
        }
    }

    /// One sudden end, or more, of a gateway or of the database; when this returns all are back.
    pub(crate) async fn kill(&mut self, dice: &mut Dice, tally: &mut Tally) {
        if self.server.is_some() && dice.one_in(3) {
            self.kill_database(dice, tally).await;
            return;
        }
        let number = dice.choose(&self.numbers());
        let life = self.lives.swap_remove(number);
        end(life, dice, tally).await;
        if dice.one_in(30) && !self.lives.is_empty() {
            // Until the other has closed what it left open.
            tally.note("gateway left dead for 13 s");
            tokio::time::sleep(Duration::from_secs(13)).await;
        }
        let life = self.come_back(number, dice, tally).await;
        self.put_back(number, life);
    }

    /// In the place from which it was taken.
    fn put_back(&mut self, number: usize, life: Life) {
        self.lives.push(life);
        let last = self.lives.len() - 1;
        self.lives.swap(number, last);
    }

    /// The server, or one of its processes; perhaps a gateway in the same moment.
    async fn kill_database(&mut self, dice: &mut Dice, tally: &mut Tally) {
        let Some(server) = &self.server else { return };
        if dice.one_in(3) {
            let chosen = usize::try_from(dice.between(0, 1 << 20)).unwrap();
            if server.kill_one_at_work(chosen) {
                tally.kill("a process of the database killed");
            }
            dice.pause(Duration::from_millis(10), Duration::from_millis(100)).await;
            server.come_back();
            return;
        }
        tally.kill("database killed");
        server.kill();
        let number = dice.choose(&self.numbers());
        if dice.one_in(3) {
            let life = self.lives.swap_remove(number);
            life.gateway.kill().await;
            tally.kill("gateway killed while the database is away");
        }
        dice.pause(Duration::ZERO, Duration::from_millis(1_500)).await;
        server.start();
        if self.lives.len() < self.province.folders.len() {
            let life = self.come_back(number, dice, tally).await;
            self.put_back(number, life);
        }
    }

    /// Starts a gateway that has ended, some of them more than once.
    async fn come_back(&self, number: usize, dice: &mut Dice, tally: &mut Tally) -> Life {
        if dice.one_in(8) {
            let mut child = support::serve_command(&self.province.folders[number], &[]);
            child.env("LEGAL_AID_GATEWAY__GATEWAY__NODE", format!("node-{number}"));
            child.env("LEGAL_AID_GATEWAY__STORE__DATABASE", &self.province.url);
            let mut child = child.spawn().unwrap();
            dice.pause(Duration::ZERO, Duration::from_millis(200)).await;
            child.kill().await.unwrap();
            tally.kill("gateway killed in its start, at random");
        }
        if dice.one_in(4) {
            let point = dice.choose(&IN_START);
            match self.start(number, Some((point, 1))).await {
                None => tally.kill(format!("gateway killed at {point}")),
                // A release build has no points.
                Some(life) => return life,
            }
        }
        let planned = match dice.between(0, 10) {
            0..5 => {
                let (point, most) = dice.choose(&AT_WORK);
                Some((point, dice.between(1, most + 1)))
            }
            5 => Some((dice.choose(&IN_DRAIN), 1)),
            _ => None,
        };
        match self.start(number, planned).await {
            Some(life) => life,
            // It passed its point before it listened.
            None => {
                let (point, _) = planned.unwrap();
                tally.kill(format!("gateway killed at {point}"));
                self.start(number, None).await.unwrap()
            }
        }
    }

    /// Clocks are right again, there is room, and nothing is planned for anybody any more.
    pub(crate) async fn heal(&mut self, tally: &mut Tally) {
        for number in self.numbers() {
            self.set_clock(number, Duration::ZERO, false);
            if self.lives[number].armed.is_some() {
                let life = self.start_in_place_of(number, tally).await;
                self.lives[number] = life;
            }
        }
    }

    async fn start_in_place_of(&mut self, number: usize, tally: &mut Tally) -> Life {
        // Ended first: a name has one gateway.
        let pid = self.lives[number].gateway.pid();
        tokio::process::Command::new("kill").args(["-9", &pid.to_string()]).status().await.unwrap();
        assert!(self.lives[number].gateway.ends_within(support::PATIENCE).await);
        tally.kill("gateway killed at random");
        self.start(number, None).await.unwrap()
    }

    fn numbers(&self) -> Vec<usize> {
        (0..self.lives.len()).collect()
    }
}

/// Ends a gateway as it is planned for it.
async fn end(mut life: Life, dice: &mut Dice, tally: &mut Tally) {
    if let Some(point) = life.armed {
        let in_drain = IN_DRAIN.contains(&point);
        // It may have ended by itself: then there is nothing to send a signal to.
        if in_drain && !life.gateway.ends_within(Duration::ZERO).await {
            life.gateway.signal("-TERM").await;
        }
        let patience = if in_drain { support::PATIENCE } else { NOT_REACHED };
        if life.gateway.ends_within(patience).await {
            return tally.kill(format!("gateway killed at {point}"));
        }
        assert!(!in_drain, "no end: {}", life.gateway.said());
    } else if dice.one_in(6) {
        life.gateway.signal("-TERM").await;
        dice.pause(Duration::ZERO, Duration::from_millis(150)).await;
        life.gateway.kill().await;
        return tally.kill("gateway killed in its drain, at random");
    }
    life.gateway.kill().await;
    tally.kill("gateway killed at random");
}
