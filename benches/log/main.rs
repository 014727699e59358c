//! What the audit log does at ten million entries beside ten thousand.
//!
//! `cargo bench --bench log -- [--entries N] [--only append,proof,start,fsck,search]` prints a table and ratios. The large log
//! is made by the log's own writer and kept below `target/bench/logs`, for this and for other benchmarks.

mod append;
mod fsck;
mod generator;
mod proof;
mod report;
mod search;
mod start;
mod world;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, ValueEnum};

use crate::generator::{generate, kept_in};

/// Measures the audit log at a large size beside a small one.
#[derive(Parser)]
#[command(name = "cargo bench --bench log --")]
struct Arguments {
    /// Entries of the large log; ten million need about 13 GB of disk.
    #[arg(long, default_value_t = 10_000_000)]
    entries: u64,
    /// Draws the entries.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Measure only these.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Subject>,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// Entries a second, beside a raw insert and at both sizes.
    Append,
    /// Time of a proof.
    Proof,
    /// From the start of the gateway until it listens.
    Start,
    /// The full check beside plain SHA-256.
    Fsck,
    /// What a search costs by each key, by pairs of keys, and deep in.
    Search,
}

/// Entries of the small log, about: as many are in its last tile as in that of the large one, so that both begin with the
/// same work there.
const SMALL: u64 = 39 * 256;

/// Entries that the full check is measured on, at most: beyond what the system keeps in memory, the disk is measured.
const IN_MEMORY: u64 = 1_000_000;

fn main() -> ExitCode {
    match run(&std::env::args().collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let has = |wanted: &str| arguments.iter().any(|argument| argument == wanted);
    // A test runner that lists tests finds none here.
    if has("--list") {
        return Ok(());
    }
    let runtime = tokio::runtime::Runtime::new()?;
    if has("--bench") || has("--help") {
        return runtime.block_on(bench(&Arguments::parse_from(arguments)));
    }
    eprintln!("not run by `cargo bench`: a small log, whose figures mean nothing");
    runtime.block_on(bench(&Arguments { entries: 2_000, seed: 1, only: Vec::new(), bench: false }))
}

async fn bench(arguments: &Arguments) -> Result<()> {
    let measures = |subject| arguments.only.is_empty() || arguments.only.contains(&subject);
    let (kept_in, seed) = (kept_in()?, arguments.seed);
    let small = (SMALL + arguments.entries % 256).min(arguments.entries);
    let small = generate(&kept_in, small, seed).await?;
    let large = generate(&kept_in, arguments.entries, seed).await?;
    // Beside the logs: /tmp may be in memory, where making a batch durable would cost nothing.
    let folder = tempfile::Builder::new().prefix("measuring-").tempdir_in(&kept_in)?;
    let mut lines = Vec::new();
    if measures(Subject::Append) {
        lines.extend(append::measure(&small, &large, folder.path()).await?);
    }
    if measures(Subject::Proof) {
        lines.extend(proof::measure(&large).await?);
    }
    if measures(Subject::Start) {
        lines.extend(start::measure(&small, &large, folder.path()).await?);
    }
    if measures(Subject::Fsck) {
        let checked = generate(&kept_in, arguments.entries.min(IN_MEMORY), seed).await?;
        lines.extend(fsck::measure(&checked).await?);
    }
    if measures(Subject::Search) {
        search::bench(&kept_in, &large, seed).await?;
    }
    println!("{}", report::table(&lines));
    Ok(())
}
