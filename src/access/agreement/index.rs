//! The agreements, found by caller and method.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Agreement, Party};
use crate::access::{Agency, Method};
use crate::domain::agency::CreditCode;
use crate::domain::region::RegionCode;

/// All agreements that may be asked for a decision. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Agreements {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// In the order of their ids, which is the order in which they are tried.
    all: Vec<Arc<Agreement>>,
    /// Places in `all`, by who may call what. It names kinds and regions as the agreements do, so that it holds whatever
    /// becomes of the agencies.
    by_caller: HashMap<(Party, Method), Vec<usize>>,
    by_id: HashMap<String, usize>,
}

impl Agreements {
    /// Of these; of several versions of one, the highest.
    pub fn new(agreements: impl IntoIterator<Item = Agreement>) -> Self {
        let mut all: Vec<_> = agreements.into_iter().map(Arc::new).collect();
        all.sort_by(|one, other| (&one.id, other.version).cmp(&(&other.id, one.version)));
        all.dedup_by(|later, first| later.id == first.id);
        let mut inner = Inner::default();
        for (place, agreement) in all.iter().enumerate() {
            inner.by_id.insert(agreement.id.clone(), place);
            let mut methods = agreement.methods.clone();
            methods.sort_unstable_by_key(|method| *method as usize);
            methods.dedup();
            for method in methods {
                inner.by_caller.entry((agreement.caller.clone(), method)).or_default().push(place);
            }
        }
        inner.all = all;
        Self { inner: Arc::new(inner) }
    }

    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Agreement>> {
        self.inner.all.iter()
    }

    /// One of them.
    pub fn of_id(&self, id: &str) -> Option<&Arc<Agreement>> {
        self.inner.by_id.get(id).and_then(|place| self.inner.all.get(*place))
    }

    /// Those that name an agency, by its code, or by its kind and a region that it is in, and a method: those by its code
    /// first.
    pub(super) fn naming<'a>(
        &'a self,
        caller: &Agency,
        method: Method,
    ) -> impl Iterator<Item = &'a Arc<Agreement>> + use<'a> {
        // What is the operator's is nobody else's, whatever an agreement says of a kind that has changed since.
        let is_fit = !method.is_the_operators() || caller.is_operator();
        let by_code = Party::Agency(caller.code);
        let by_region = regions(caller.region).map(|region| region.map(|at| Party::of_kind(caller.kind, at)));
        let parties = std::iter::once(Some(by_code)).chain(by_region).flatten().filter(move |_| is_fit);
        parties.flat_map(move |party| {
            let places = self.inner.by_caller.get(&(party, method)).map(Vec::as_slice).unwrap_or_default();
            places.iter().filter_map(|place| self.inner.all.get(*place))
        })
    }

    /// The agencies that agreements name by their codes.
    pub fn named(&self) -> impl Iterator<Item = (&Agreement, &CreditCode)> {
        self.iter().flat_map(|agreement| {
            let parties = std::iter::once(&agreement.caller).chain(&agreement.counterparts);
            parties.filter_map(move |party| match party {
                Party::Agency(code) => Some((agreement.as_ref(), code)),
                Party::Kind(_) => None,
            })
        })
    }
}

/// A region and those above it, each once.
fn regions(region: RegionCode) -> [Option<RegionCode>; 3] {
    let (city, province) = (region.city(), region.province());
    [Some(region), city.filter(|city| *city != region), Some(province).filter(|province| *province != region)]
}
