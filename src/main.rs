//! Parses the arguments, runs one command, reports its error.

use std::process::ExitCode;

use clap::Parser;
use legal_aid_gateway::cli::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
