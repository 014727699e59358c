//! What the gateway itself sends: questions to registries, messages to inboxes.

pub mod breaker;
pub mod courier;
pub mod enquirer;
pub mod inboxes;
pub mod peers;
pub mod registry;
pub mod timer;
