//! The legal-aid exchange gateway: the map of the crate.
//!
//! A call comes in through [`identity`] (mutual TLS: which agency is this?), passes [`grpc`] (is it allowed, is it
//! right, is it witnessed?), asks [`access`] (which agreement allows it?), and is carried out: a question goes out
//! through [`delivery`] to a registry, an exchange goes into the [`store`], and the courier in [`delivery`] takes it
//! to the other side. Before anything goes out, and before any answer, [`audit`] has an entry on the disk.
//!
//! [`domain`] holds the law's words as types and knows nothing of all this. [`gateway`] puts the parts together;
//! [`cli`] is what people type. [`setup`] makes the folder that a gateway runs from, [`client`] is an agency's own
//! side, [`witness`] cosigns other parties' logs, and [`simulator`] has agencies that behave, and misbehave, on request.
//!
//! Imports point one way: `cli -> gateway -> {grpc, delivery, identity} -> {access, store} -> audit -> domain`.

#![forbid(unsafe_code)]

pub mod access;
pub mod audit;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod delivery;
pub mod domain;
pub mod entropy;
pub mod fault;
pub mod gateway;
pub mod grpc;
pub mod identity;
pub mod setup;
pub mod simulator;
pub mod store;
pub mod telemetry;
pub mod witness;
