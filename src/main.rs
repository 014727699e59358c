//! Parses the arguments, runs one command, reports its error.

use std::process::ExitCode;

use clap::Parser;
use legal_aid_gateway::cli::Arguments;

/// A call makes some hundred small allocations, often freed by another thread: measured, a fifth of its time was spent so.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", told_once(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error and its causes, without those that an error's own text already names.
fn told_once(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
