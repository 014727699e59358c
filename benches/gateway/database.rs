//! The database that a gateway works on: a file of its own, or a PostgreSQL server of the benchmark's own.

use anyhow::{Context, Result};

use crate::postgres;

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Database {
    /// SQLite, in the gateway's own process.
    Sqlite,
    /// A private PostgreSQL server, in the folder for temporary files: it is to lie on the disk that is measured.
    Postgres,
}

/// A new, empty PostgreSQL database.
pub(crate) struct OnPostgres {
    pub(crate) url: String,
    postmaster: u32,
}

impl OnPostgres {
    pub(crate) fn create() -> Result<Self> {
        let url = postgres::database().context("no PostgreSQL is installed")?;
        let process = postgres::psql(&url, "SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)");
        Ok(Self { url, postmaster: process.trim().parse()? })
    }

    /// The processor time that all processes of the server have used so far, in microseconds. Linux only.
    pub(crate) fn cpu_us(&self) -> Option<u64> {
        let children =
            std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.postmaster)).ok()?;
        let children = children.split_whitespace().filter_map(|process| process.parse().ok());
        // A process that ends meanwhile counts among those of its parent that have ended.
        let of_children: u64 =
            children.filter_map(|process| Some(times(process)?.iter().take(2).sum::<u64>())).sum();
        Some(times(self.postmaster)?.iter().sum::<u64>() + of_children)
    }
}

/// User and system time of a process, and of its children that have ended: fields 14 to 17 of proc_pid_stat(5), in microseconds.
fn times(process: u32) -> Option<[u64; 4]> {
    const MICROS_A_TICK: u64 = 10_000;
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let mut next = || Some(fields.next()?.parse::<u64>().ok()? * MICROS_A_TICK);
    Some([next()?, next()?, next()?, next()?])
}
