//! The legal-aid exchange gateway.

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
pub mod gateway;
pub mod grpc;
pub mod identity;
pub mod setup;
pub mod simulator;
pub mod store;
pub mod telemetry;
