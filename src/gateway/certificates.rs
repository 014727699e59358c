//! The certificates in force and when they end: the gateway's own, those of the authorities that it trusts, their
//! revocation lists, and those that agencies came with.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};

use crate::domain::agency::CreditCode;
use crate::identity::certificate::PeerCertificate;
use crate::identity::credentials::{Credentials, End, Ends};

/// How often what ends soon is said again.
const SAY_AGAIN: SignedDuration = SignedDuration::from_hours(24);

/// What is in force now.
#[derive(Debug)]
pub(super) struct InForce {
    /// The gateway's own; the courier goes out with it.
    pub(super) own: Arc<ArcSwap<PeerCertificate>>,
    ends: ArcSwap<Vec<End>>,
    /// When the certificate ends that lasts longest of those that an agency has come with since the start.
    agencies: Mutex<HashMap<CreditCode, Timestamp>>,
    /// From how long before its end a certificate is warned of.
    warn_before: SignedDuration,
    said: Mutex<Option<Timestamp>>,
}

impl InForce {
    pub(super) fn new(credentials: &Credentials, own: PeerCertificate, warn_before_days: u16) -> Self {
        Self {
            own: Arc::new(ArcSwap::from_pointee(own)),
            ends: ArcSwap::from_pointee(credentials.ends().to_vec()),
            agencies: Mutex::default(),
            warn_before: SignedDuration::from_hours(24 * i64::from(warn_before_days)),
            said: Mutex::new(None),
        }
    }

    /// Whether what is in force of this kind and name has ended, too.
    pub(super) fn has_ended(&self, end: &End, now: Timestamp) -> bool {
        self.ends.load().iter().any(|held| held.of == end.of && held.name == end.name && held.at < now)
    }

    /// Takes others in their place.
    pub(super) fn replace(&self, credentials: &Credentials, own: PeerCertificate) {
        self.own.store(Arc::new(own));
        self.ends.store(Arc::new(credentials.ends().to_vec()));
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Notes with what certificate an agency comes.
    pub(super) fn note(&self, peer: &PeerCertificate) {
        let mut agencies = self.agencies.lock().unwrap_or_else(PoisonError::into_inner);
        let longest = agencies.entry(peer.agency).or_insert(peer.not_after);
        *longest = (*longest).max(peer.not_after);
    }

    /// When the first ends of what is `of` this kind.
    pub(super) fn first_end(&self, of: Ends) -> Option<Timestamp> {
        self.ends.load().iter().filter(|end| end.of == of).map(|end| end.at).min()
    }

    /// How many agencies have only come with certificates that end soon.
    pub(super) fn agencies_ending(&self, now: Timestamp) -> usize {
        self.ending_of_agencies(now).len()
    }

    fn ending_of_agencies(&self, now: Timestamp) -> Vec<(CreditCode, Timestamp)> {
        let agencies = self.agencies.lock().unwrap_or_else(PoisonError::into_inner);
        let all = agencies.iter().map(|(agency, at)| (*agency, *at));
        all.filter(|(_, at)| at.duration_since(now) <= self.warn_before).collect()
    }

    /// Says once a day, and after each change, what ends soon.
    pub(super) fn warn(&self, now: Timestamp) {
        {
            let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
            if said.is_some_and(|said| now.duration_since(said) < SAY_AGAIN) {
                return;
            }
            *said = Some(now);
        }
        for end in self.ends.load().iter().filter(|end| end.is_soon(now, self.warn_before)) {
            tracing::warn!(what = end.of.as_str(), name = end.name, ends = %end.at, "ends soon: renew it in time");
        }
        for (agency, at) in self.ending_of_agencies(now) {
            tracing::warn!(%agency, ends = %at, "the certificate that an agency comes with ends soon");
        }
    }
}
