//! What opens an exchange: one arm a kind, each read by the kind's own file.

use jiff::Timestamp;

use super::fee_waiver::fee_waiver_request;
use super::view::warning;
use crate::domain::agency::CreditCode;
use crate::domain::exchange::{Kind, Route};
use crate::domain::person::IdDocument;
use crate::domain::violation::{Remark, Violations};
use crate::grpc::proto;
use crate::grpc::proto::content::Kind as Arm;

/// What surrounds a content while it is read.
#[derive(Clone, Copy)]
pub(crate) struct Surroundings {
    /// Who receives it, where that could be read.
    pub(crate) recipient: Option<CreditCode>,
    /// When the call arrived.
    pub(crate) now: Timestamp,
}

/// What a kind's file says of a content that it read.
#[derive(Default)]
pub(super) struct Read {
    /// The person concerned.
    pub(super) subject: Option<IdDocument>,
    /// What is worth saying although it stops nothing; field paths relative to the arm.
    pub(super) remarks: Vec<Remark>,
    /// The way that the content itself says it goes, where it says so.
    pub(super) stated_route: Option<StatedRoute>,
    /// Which course within its kind it takes, where clocks depend on that (`track` in `data/clocks.toml`).
    pub(super) track: Option<&'static str>,
}

/// The way that a content says it goes.
#[derive(Clone, Copy)]
pub(crate) struct StatedRoute {
    /// The field that says so, from the message's root.
    pub(crate) field: &'static str,
    /// The way.
    pub(crate) route: &'static Route,
}

/// A content as read.
pub(crate) struct Opening {
    /// What it is.
    pub(crate) kind: Kind,
    /// The person concerned; leaves as a pseudonym only.
    pub(crate) subject: Option<IdDocument>,
    /// Remarks that do not stop it.
    pub(crate) warnings: Vec<proto::Warning>,
    /// The way that the content itself says it goes, where it says so; the parties must agree with it.
    pub(crate) stated_route: Option<StatedRoute>,
    /// Which course within its kind it takes, where clocks depend on that.
    pub(crate) track: Option<&'static str>,
}

/// Reads a content; `field` paths start at `content`.
pub(crate) fn content(
    violations: &mut Violations,
    value: Option<&proto::Content>,
    around: Surroundings,
) -> Option<Opening> {
    let arm = violations.require("content", value.and_then(|value| value.kind.as_ref()))?;
    violations.within("content", |v| {
        Some(match arm {
            Arm::FeeWaiver(asked) => {
                opening(v, Kind::FeeWaiver, "fee_waiver", |v| fee_waiver_request(v, asked, around))
            }
        })
    })
}

fn opening(
    violations: &mut Violations,
    kind: Kind,
    arm: &str,
    read: impl FnOnce(&mut Violations) -> Read,
) -> Opening {
    let Read { subject, remarks, stated_route, track } = violations.within(arm, read);
    let warnings = remarks.iter().map(|remark| warning(&format!("content.{arm}"), remark)).collect();
    Opening { kind, subject, warnings, stated_route, track }
}
