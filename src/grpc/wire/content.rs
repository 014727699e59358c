//! What opens an exchange: one arm a kind, each read by the kind's own file.

use jiff::Timestamp;

use super::appeal_referral::appeal_referral;
use super::cooperation::cooperation_request;
use super::counsel_notice::counsel_notice;
use super::direct_assignment::direct_assignment_report;
use super::fee_waiver::fee_waiver_request;
use super::judicial_relief::judicial_relief_request;
use super::view::warning;
use crate::domain::agency::{AgencyKind, CreditCode};
use crate::domain::exchange::{Kind, Route};
use crate::domain::law::Article;
use crate::domain::person::IdDocument;
use crate::domain::region::RegionCode;
use crate::domain::violation::{Remark, Violations};
use crate::grpc::proto;
use crate::grpc::proto::content::Kind as Arm;

/// What surrounds a content while it is read.
#[derive(Clone, Copy)]
pub(crate) struct Surroundings {
    /// Who calls.
    pub(crate) sender: CreditCode,
    /// Who receives it, where that could be read.
    pub(crate) recipient: Option<CreditCode>,
    /// Where the matter is handled, where that could be read.
    pub(crate) region: Option<RegionCode>,
    /// Whether papers come with it.
    pub(crate) has_attachments: bool,
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
    /// Who alone may send it, where the content itself says so.
    pub(super) stated_senders: Option<StatedSenders>,
}

/// The way that a content says it goes.
#[derive(Clone, Copy)]
pub(crate) struct StatedRoute {
    /// The field that says so, from the message's root.
    pub(crate) field: &'static str,
    /// The way.
    pub(crate) route: &'static Route,
}

/// Who alone may send a content, by what it says.
#[derive(Clone, Copy)]
pub(crate) struct StatedSenders {
    /// The field that says so, from the message's root.
    pub(crate) field: &'static str,
    /// What the sender may be.
    pub(crate) senders: &'static [AgencyKind],
    /// Where the law provides for it.
    pub(crate) article: Article,
}

impl StatedSenders {
    /// Checks what the sender is.
    pub(crate) fn check(&self, sender: AgencyKind, violations: &mut Violations) {
        if self.senders.contains(&sender) {
            return;
        }
        let senders = self.senders.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ");
        violations.add_by_article(
            self.field,
            "SENDER_FITS_CONTENT",
            format!("with this value the sender is: {senders}"),
            "发送机构与此项内容不符",
            self.article,
        );
    }
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
    /// Who alone may send it, where the content itself says so.
    pub(crate) stated_senders: Option<StatedSenders>,
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
            Arm::JudicialRelief(asked) => opening(v, Kind::JudicialRelief, "judicial_relief", |v| {
                judicial_relief_request(v, asked, around)
            }),
            Arm::AppealReferral(referral) => {
                opening(v, Kind::AppealReferral, "appeal_referral", |v| appeal_referral(v, referral, around))
            }
            Arm::CounselNotice(notice) => {
                opening(v, Kind::CounselNotice, "counsel_notice", |v| counsel_notice(v, notice, around))
            }
            Arm::DirectAssignmentReport(report) => {
                opening(v, Kind::DirectAssignmentReport, "direct_assignment_report", |v| {
                    direct_assignment_report(v, report, around)
                })
            }
            Arm::CooperationRequest(asked) => {
                opening(v, Kind::CooperationRequest, "cooperation_request", |v| {
                    cooperation_request(v, asked, around)
                })
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
    let Read { subject, remarks, stated_route, track, stated_senders } = violations.within(arm, read);
    let warnings = remarks.iter().map(|remark| warning(&format!("content.{arm}"), remark)).collect();
    Opening { kind, subject, warnings, stated_route, track, stated_senders }
}
