//! The law's words as types. No I/O, no clock, no randomness.
//!
//! Every type here is parsed once, at the edge, and is right from then on. No error repeats what it
//! was given, because what it was given may be a person's.

pub mod agency;
pub mod appeal_referral;
pub mod attachment;
pub mod calendar;
pub mod case_number;
pub mod clocks;
pub mod cooperation;
pub mod counsel_notice;
pub mod court_fee;
pub mod direct_assignment;
pub mod eligibility;
pub mod envelope;
pub mod exchange;
pub mod fee_waiver;
pub mod judicial_relief;
pub mod law;
pub mod lawyer;
pub mod money;
pub mod person;
pub mod region;
pub mod verification;
pub mod violation;
pub(crate) mod vocabulary;
