//! Whose a certificate is, and how long it and what it is verified with last.

use jiff::SignedDuration;

use super::Findings;
use crate::clock::Clock;
use crate::domain::agency::CreditCode;
use crate::identity::credentials::{Credentials, Ends};

/// The gateway's certificate names its organ: that is how agencies know it.
pub(super) fn names(findings: &mut Findings, credentials: &Credentials, organ: CreditCode) {
    const CHECK: &str = "certificate names the organ";
    const REMEDY: &str = "use the organ's certificate, or correct gateway.agency";
    match &credentials.own().named {
        Ok(named) if *named == organ => findings.fine(CHECK, organ.to_string()),
        Ok(named) => findings.bad(CHECK, format!("certificate {named}, configuration {organ}"), REMEDY),
        Err(error) => findings.bad(CHECK, error.to_string(), REMEDY),
    }
}

/// Development certificates are for development mode, and development mode is not for real data.
pub(super) fn mode(findings: &mut Findings, credentials: &Credentials, development: bool) {
    const CHECK: &str = "mode";
    match (development, credentials.development()) {
        (true, _) => findings.fine(CHECK, "development: no real data here"),
        (false, None) => findings.fine(CHECK, "no development certificates"),
        (false, Some(name)) => {
            findings.bad(
                CHECK,
                format!("{name} is for development only"),
                "use certificates of a real authority",
            );
        }
    }
}

/// What has ended, and what ends within so many days.
pub(super) fn ends(findings: &mut Findings, credentials: &Credentials, warn_before_days: u16, clock: &Clock) {
    let warn_before = SignedDuration::from_hours(24 * i64::from(warn_before_days));
    for end in credentials.ends() {
        let left = end.at.duration_since(clock.now());
        let found = format!("{}: until {:.0}, {} days left", end.name, end.at, left.as_hours() / 24);
        let (over, soon) = match end.of {
            Ends::Own => ("it has expired: get a new one", "get a new one now"),
            Ends::Authority => {
                ("it has expired: trust the new one", "ask the authority for its new one, and trust both")
            }
            Ends::RevocationList => ("nobody is let in: fetch the newest", "fetch the newest"),
        };
        if left.is_negative() {
            findings.bad(end.of.as_str(), found, over);
        } else if end.is_soon(clock.now(), warn_before) {
            findings.bad(end.of.as_str(), found, soon);
        } else {
            findings.fine(end.of.as_str(), found);
        }
    }
}
