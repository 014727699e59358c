//! What the audit log does at ten million entries beside ten thousand.
//!
//! `cargo bench --bench log -- [--entries N]` makes the large log by the log's own writer and keeps it
//! below `target/bench/logs`, for this and for other benchmarks.

mod generator;
mod search;
mod world;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use legal_aid_gateway::clock::Clock;

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
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

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
    runtime.block_on(bench(&Arguments { entries: 2_000, seed: 1, bench: false }))
}

async fn bench(arguments: &Arguments) -> Result<()> {
    let kept = generator::generate(&generator::kept_in()?, arguments.entries, arguments.seed).await?;
    let (store, opened) = kept.open(Clock::system()).await?;
    eprintln!("{} of {} entries in {}", opened.log.head().size, kept.entries, kept.folder.display());
    drop(opened.log);
    opened.writer.await?;
    store.close().await;
    search::bench(&generator::kept_in()?, &kept, arguments.seed).await
}
