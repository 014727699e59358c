//! What callers do: an operation's words turned into a call that means something now.

use legal_aid_gateway::domain::exchange::{DeliveryState, ResponseKind};

use super::calls::{Answering, Call};
use super::model::next_state;
use super::op::Deed;
use super::parties::Party;
use super::world::World;

/// Answers to a fee waiver.
const ANSWERS: [ResponseKind; 6] = [
    ResponseKind::Receipt,
    ResponseKind::SupplementRequest,
    ResponseKind::Supplement,
    ResponseKind::Decision,
    ResponseKind::Withdrawal,
    ResponseKind::Closure,
];

impl World {
    /// The call for a deed, and whether its caller hears the answer; nothing where there is nothing to do it to.
    pub(super) fn call_of(&mut self, deed: Deed) -> Option<(Call, bool)> {
        let (id, now) = (self.request_id(), self.now());
        let model = &self.models[0];
        let call = match deed {
            Deed::Submit { to } => Call::submit(id, to, format!("LQ-2026-{:04}", id.as_u64_pair().1), now),
            Deed::Respond { exchange, by_sender, answer } => {
                let at = usize::from(exchange).checked_rem(model.threads.len())?;
                let thread = &model.threads[at];
                let exchange_id = thread.id?.to_string();
                // Mostly what the state allows somebody, and a withdrawal seldom: it ends everything.
                let allowed = |by_sender| {
                    let leads_on = |kind: &ResponseKind| next_state(thread.state, by_sender, *kind).is_some();
                    let seldom = |kind: &ResponseKind| *kind != ResponseKind::Withdrawal || answer % 8 == 0;
                    let kinds = ANSWERS.into_iter().filter(|kind| leads_on(kind) && seldom(kind));
                    kinds.collect::<Vec<_>>()
                };
                let other = allowed(by_sender).is_empty() && !allowed(!by_sender).is_empty();
                let by_sender = by_sender != other;
                let mut among = allowed(by_sender);
                if answer >= 230 {
                    among = ANSWERS.to_vec();
                }
                let (by, to) = if by_sender {
                    (Party::Centre, thread.recipient)
                } else {
                    (thread.recipient, Party::Centre)
                };
                let kind = *among.get(usize::from(answer).checked_rem(among.len())?)?;
                let is_opening =
                    |taken: &&super::parties::Taken| taken.exchange_id == exchange_id && taken.sequence == 1;
                let opening = self.network.books(|books| {
                    books.of(by).map(|(_, taken)| taken).find(is_opening).map(|taken| taken.digest.clone())
                });
                // Nobody confirms what it does not have.
                let opening = if kind == ResponseKind::Receipt { opening? } else { Vec::new() };
                let matter = &thread.matter;
                let answering = Answering { exchange_id: &exchange_id, matter, by, to, opening, now };
                Call::respond(id, at, kind, &answering)
            }
            Deed::Pull { who, lost } => return Some((Call::pull(id, who), !lost)),
            Deed::Acknowledge { who, which, wrong } => {
                let mut taken = self.network.books(|books| {
                    let known = |(id, taken): (&String, &super::parties::Taken)| {
                        Some((model.parcel(id)?, id.clone(), taken.digest.clone()))
                    };
                    books.of(who).filter_map(known).collect::<Vec<_>>()
                });
                taken.sort_unstable();
                let at = usize::from(which).checked_rem(taken.len())?;
                let (parcel, delivery, digest) = &taken[at];
                Call::acknowledge(id, (who, *parcel), delivery, (!wrong).then_some(digest))
            }
            Deed::Redeliver { exchange } => {
                // Mostly where something was given up.
                let dead = |at: &usize| {
                    let mut parcels = model.parcels.iter();
                    parcels.any(|parcel| parcel.thread == *at && parcel.state == DeliveryState::Dead)
                };
                let mut among: Vec<_> = (0..model.threads.len()).filter(dead).collect();
                if exchange >= 230 {
                    among = (0..model.threads.len()).collect();
                }
                let at = among[usize::from(exchange).checked_rem(among.len())?];
                Call::redeliver(id, at, &model.threads[at].id?.to_string())
            }
            Deed::Retry { delivery } => {
                let at = usize::from(delivery).checked_rem(model.parcels.len())?;
                Call::retry(id, at, &model.parcels[at].id?.to_string())
            }
        };
        Some((call, true))
    }
}
