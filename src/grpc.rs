//! The contract on the wire: services, and what stands before them.

/// Types generated from `proto/`. They have no `Debug`: a message holds personal values.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod generated {
    include!(concat!(env!("OUT_DIR"), "/contract.rs"));
}

pub use generated::legalaid::exchange::v1 as proto;

mod agreement;
mod attachment;
mod audit;
mod buffers;
mod call;
mod capacity;
mod code;
mod deliveries;
mod eligibility;
mod exchange;
mod exchange_views;
mod front;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod intake;
pub mod json;
mod messages;
mod one_message;
mod operation;
mod page;
mod published;
mod pull;
mod question;
mod quota;
mod rates;
mod shed;
mod status;
mod verification;
mod watch;
mod whole_stream;
pub(crate) mod wire;

pub(crate) use self::agreement::terms as agreement_terms;
pub use self::agreement::{AgreementBook, Agreements};
pub use self::attachment::{AttachmentLimits, Attachments};
pub use self::audit::{Audit, FindingRules};
pub use self::capacity::Turns;
pub(crate) use self::code::code_name;
pub use self::eligibility::Eligibility;
pub use self::exchange::Exchanges;
pub(crate) use self::exchange::sha256;
pub use self::front::{CallLimits, Front, call_counts};
pub use self::intake::Intake;
pub use self::published::{FetchLimits, PublishedLog};
pub use self::status::{ERROR_DOMAIN, LOG_INDEX_HEADER};
pub use self::verification::{Paces, Verification};
