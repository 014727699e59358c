//! Runs one command.

fn main() {}
