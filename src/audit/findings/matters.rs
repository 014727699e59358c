//! Look-ups for a matter that had ended.
//!
//! What has ended is known from entries alone. An exchange opens with the RESPONSE of SubmitExchange that names it; it
//! ends with the RESPONSE of RespondToExchange whose reason is the final state, or with the gateway's own EVENT
//! DeemWithdrawn. A matter of an agency has ended when one of its exchanges has and none that the log shows is open. A
//! new exchange for the matter opens it again.

use std::collections::{HashMap, HashSet, VecDeque};

use uuid::Uuid;

use super::counting::{Windows, is_register_look_up};
use super::{About, Given, Rule, RuleSettings, Seen, Watch};
use crate::audit::entry::{Entry, Phase};
use crate::domain::exchange::ExchangeState;

/// Matters, exchanges and open calls that are remembered, each; the oldest are forgotten.
const REMEMBERED: usize = 50_000;

/// An agency's matter.
type Matter = (String, String);

/// Counts look-ups for matters that had ended.
pub(super) struct Matters {
    windows: Windows<()>,
    /// Calls that wait for their RESPONSE, by index.
    calls: Remembered<u64, Call>,
    /// Whose matter an exchange belongs to.
    exchanges: Remembered<Uuid, Matter>,
    matters: Remembered<Matter, State>,
}

struct Call {
    caller: String,
    counterpart: Option<String>,
    matter: String,
}

#[derive(Default)]
struct State {
    open: HashSet<Uuid>,
    has_ended: bool,
}

impl Matters {
    pub(super) fn new(set: RuleSettings) -> Self {
        Self {
            windows: Windows::new(Rule::MatterClosed, set),
            calls: Remembered::default(),
            exchanges: Remembered::default(),
            matters: Remembered::default(),
        }
    }

    fn learn(&mut self, seen: &Seen<'_>) {
        let entry = seen.entry;
        match (entry.phase, &*entry.method) {
            (Phase::Request, "SubmitExchange" | "RespondToExchange") => {
                if let (Some(caller), Some(matter)) = (&entry.caller, &entry.matter) {
                    let (caller, matter) = (caller.clone(), matter.clone());
                    let counterpart = entry.counterpart.clone();
                    self.calls.insert(seen.index, Call { caller, counterpart, matter });
                }
            }
            (Phase::Response, "SubmitExchange") => {
                let call = entry.request_index.and_then(|index| self.calls.remove(&index));
                if let (Some(call), Some(exchange), Some("OK")) =
                    (call, entry.exchange, entry.code.as_deref())
                {
                    let matter = (call.caller, call.matter);
                    self.exchanges.insert(exchange, matter.clone());
                    let state = self.matters.entry(matter);
                    state.open.insert(exchange);
                    state.has_ended = false;
                }
            }
            (Phase::Response, "RespondToExchange") => {
                let call = entry.request_index.and_then(|index| self.calls.remove(&index));
                if let (Some(exchange), true) = (entry.exchange, is_final(entry)) {
                    let known = self.exchanges.remove(&exchange);
                    // Opened before what was looked through: either party may be the one whose matter it is.
                    let of_call = call.into_iter().flat_map(|call| {
                        let parties = std::iter::once(call.caller).chain(call.counterpart);
                        parties.map(move |party| (party, call.matter.clone())).collect::<Vec<_>>()
                    });
                    let ended: Vec<Matter> = known.map_or_else(|| of_call.collect(), |matter| vec![matter]);
                    ended.into_iter().for_each(|matter| self.end(matter, exchange));
                }
            }
            (Phase::Event, "DeemWithdrawn") => {
                let Some(exchange) = entry.exchange else { return };
                let named = entry.counterpart.clone().zip(entry.matter.clone());
                if let Some(matter) = self.exchanges.remove(&exchange).or(named) {
                    self.end(matter, exchange);
                }
            }
            _ => {}
        }
    }

    fn end(&mut self, matter: Matter, exchange: Uuid) {
        let state = self.matters.entry(matter);
        state.open.remove(&exchange);
        state.has_ended = true;
    }
}

fn is_final(entry: &Entry) -> bool {
    let state = entry.reason.as_deref().and_then(ExchangeState::from_name);
    entry.code.as_deref() == Some("OK") && state.is_some_and(ExchangeState::is_final)
}

impl Watch for Matters {
    fn see(&mut self, seen: &Seen<'_>, given: &mut Given) {
        self.windows.advance(seen.at, given);
        let entry = seen.entry;
        if is_register_look_up(entry)
            && let (Some(caller), Some(matter)) = (&entry.caller, &entry.matter)
            && let Some(state) = self.matters.get(&(caller.clone(), matter.clone()))
            && state.has_ended
            && state.open.is_empty()
        {
            let about =
                About { caller: Some(caller.clone()), matter: Some(matter.clone()), ..About::default() };
            self.windows.tally.count(about, seen.index);
        }
        self.learn(seen);
    }

    fn finish(&mut self, given: &mut Given) {
        self.windows.close(given);
    }
}

/// A map that forgets its oldest keys when it has [`REMEMBERED`].
struct Remembered<K, V> {
    map: HashMap<K, V>,
    /// Keys in the order in which they came; some may be gone already.
    order: VecDeque<K>,
}

impl<K, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self { map: HashMap::new(), order: VecDeque::new() }
    }
}

impl<K: Clone + Eq + std::hash::Hash, V> Remembered<K, V> {
    fn insert(&mut self, key: K, value: V) {
        if self.map.insert(key.clone(), value).is_none() {
            self.order.push_back(key);
            self.forget();
        }
    }

    fn forget(&mut self) {
        while self.order.len() > REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.map.remove(&oldest);
            }
        }
    }

    fn get(&self, key: &K) -> Option<&V> {
        self.map.get(key)
    }

    fn remove(&mut self, key: &K) -> Option<V> {
        self.map.remove(key)
    }

    fn entry(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        if !self.map.contains_key(&key) {
            self.insert(key.clone(), V::default());
        }
        self.map.entry(key).or_default()
    }
}
