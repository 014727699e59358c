//! What the gateway itself sends: questions to registries, messages to inboxes.

pub mod peers;
pub mod registry;
