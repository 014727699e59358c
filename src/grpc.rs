//! The contract on the wire.

/// Types generated from `proto/`. They have no `Debug`: a message holds personal values.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod generated {
    include!(concat!(env!("OUT_DIR"), "/contract.rs"));
}

pub use generated::legalaid::exchange::v1 as proto;
