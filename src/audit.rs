//! The audit log: entries, Merkle tree, checkpoints, proofs, verification.
//!
//! All but [`log`] is pure: it does no I/O, reads no clock and draws no randomness. The formats are public ones
//! (RFC 6962 trees, C2SP `tlog-tiles`, `tlog-checkpoint`, `tlog-proof` and `signed-note`), so that an auditor can
//! check the log with tools that nobody here wrote.

pub mod bundle;
pub mod checkpoint;
pub mod cosignature;
pub mod entry;
pub mod findings;
pub mod fork;
pub mod fsck;
pub mod key_ring;
pub mod log;
pub mod merkle;
pub mod note;
pub mod proof;
pub mod published;
pub mod receipt;
pub mod removal;
pub mod search;
pub mod secret;
pub mod tile;
pub mod verifier;
pub mod witness;
pub mod witnessed;
