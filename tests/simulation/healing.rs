//! The end of a run: the timer's looks, and what must be so once the network is whole again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use legal_aid_gateway::audit::entry::{Entry, Phase};
use legal_aid_gateway::domain::exchange::{DeliveryState, ExchangeState};
use legal_aid_gateway::store::{OutboxFilter, OutboxRecord};
use tokio::sync::watch;

use super::calls::{Call, Said};
use super::gateway::{SCHEDULE, log_key};
use super::log;
use super::model::{Model, shanghai};
use super::parties::Party;
use super::world::{Held, Process, World};

/// Rounds in which everything has to arrive: one for each message that may wait for another of its exchange, and more.
const ROUNDS: usize = 24;

/// Days by which the end of a time limit moves at most, past weekends and holidays.
const MOST_HOLIDAYS: i64 = 12;

impl World {
    /// The timer looks: whose papers are late is deemed to have withdrawn, and nothing that has come to its end stays
    /// unraised.
    pub(super) async fn look(&mut self) -> Held<Process> {
        self.gateway().disk.spare();
        let now = self.now();
        let model = &self.models[0];
        let ids: Vec<_> = model.threads.iter().filter_map(|thread| thread.id).collect();
        let clocks = self.store().clocks_of(&ids).await.unwrap();
        let mut lapsed = Vec::new();
        for (at, thread) in model.threads.iter().enumerate() {
            if thread.state != ExchangeState::SupplementRequested {
                continue;
            }
            let of_it = thread.id.and_then(|id| clocks.get(&id)).into_iter().flatten();
            let ended = of_it
                .filter(|clock| clock.clock == "SUPPLEMENT" && clock.stopped.is_none() && clock.due <= now);
            let (is_late, last) = (ended.count() == 1, thread.papers_due.unwrap());
            let surely = last.checked_add(jiff::Span::new().days(MOST_HOLIDAYS)).unwrap();
            if is_late && shanghai(now) <= last || !is_late && shanghai(now) > surely {
                return Err(format!("papers for exchange {at} were due by {last}; late: {is_late}"));
            }
            lapsed.extend(is_late.then_some(at));
        }
        let timer = self.gateway().timer.clone();
        let (doing, _) = self.begin_work(async move { while timer.look().await.unwrap() {} });
        self.until(|| doing.is_done()).await?;
        for model in &mut self.models {
            for at in &lapsed {
                model.lapse(*at, now);
            }
        }
        let left = self.store().due_clocks(now, 100).await.unwrap();
        if let Some(clock) = left.first() {
            return Err(format!("{} has come to its end and is not raised", clock.clock));
        }
        Ok(Process::Runs)
    }

    /// Nobody has taken over what should not have come yet, and what counts as delivered is in its recipient's book.
    pub(super) fn check_books(&mut self) -> Held {
        let news = self.network.books(super::parties::Books::news);
        let model = &self.models[0];
        let has = |to, id: &str| self.network.books(|books| books.taken(to, id).is_some());
        for (to, id) in news {
            let at = model.parcel(&id).ok_or(format!("{to:?} took over what the gateway does not know"))?;
            let parcel = &model.parcels[at];
            if parcel.to != to {
                return Err(format!("{to:?} was given what is for {:?}", parcel.to));
            }
            let before = model.parcels.iter().filter(|other| {
                (other.thread, other.to) == (parcel.thread, to) && other.sequence < parcel.sequence
            });
            for other in before {
                let id = other.id.unwrap().to_string();
                if !other.was_dead && !has(to, &id) {
                    let (late, early) = (other.sequence, parcel.sequence);
                    let thread = parcel.thread;
                    return Err(format!("exchange {thread}: message {early} arrived before message {late}"));
                }
            }
        }
        for parcel in model.parcels.iter().filter(|parcel| parcel.state == DeliveryState::Delivered) {
            if !has(parcel.to, &parcel.id.unwrap().to_string()) {
                let (thread, sequence, to) = (parcel.thread, parcel.sequence, parcel.to);
                return Err(format!(
                    "message {sequence} of exchange {thread} counts as delivered, and {to:?} does not have it"
                ));
            }
        }
        Ok(())
    }

    /// With a network that works, everything arrives, or was given up for its age before; after the operator has had that
    /// delivered again, everything has arrived.
    pub(super) async fn heal(&mut self) -> Held {
        self.gateway().disk.spare();
        self.resolve_all().await?;
        self.compare().await?;
        self.keep_entries();
        let attempts: Vec<_> = self.models.iter().map(|model| self.check_attempts(model)).collect();
        if let (false, Some(broken)) = (attempts.iter().any(Result::is_ok), attempts.into_iter().next()) {
            return broken;
        }
        self.network.heal()?;
        self.check_books()?;
        let before = self.models[0].clone();
        let left = self.deliver_all().await?;
        for record in &left {
            let known = before.parcel(&record.delivery_id.to_string()).map(|at| &before.parcels[at]);
            if record.state != DeliveryState::Dead
                || known.is_none_or(|parcel| parcel.state != DeliveryState::Dead)
            {
                return Err(format!("a delivery to {} is left in {:?}", record.recipient, record.state));
            }
        }
        let dead: BTreeSet<_> = left.iter().map(|record| record.exchange_id).collect();
        for exchange_id in dead {
            let at = before.threads.iter().position(|thread| thread.id == Some(exchange_id)).unwrap();
            let call = Call::redeliver(self.request_id(), at, &exchange_id.to_string());
            if let Said::Refused { reason, .. } = call.make(self.gateway()).await {
                return Err(format!("what was given up cannot be delivered again: {reason}"));
            }
        }
        let left = self.deliver_all().await?;
        if let Some(record) = left.first() {
            return Err(format!(
                "a delivery to {} never arrives, it is {:?}",
                record.recipient, record.state
            ));
        }
        self.check_nothing_is_lost(&before).await
    }

    /// Lets both couriers work as they do in the gateway, and those who pull pull, until nothing is open. Returns what
    /// was not delivered.
    async fn deliver_all(&mut self) -> Held<Vec<OutboxRecord>> {
        let (stop, stopped) = watch::channel(false);
        let mut running = Vec::new();
        for courier in self.gateway().couriers.clone() {
            let mut stopped = stopped.clone();
            running.push(tokio::spawn(courier.run(async move {
                let _ = stopped.wait_for(|stopped| *stopped).await;
            })));
        }
        let mut left = Vec::new();
        for _ in 0..ROUNDS {
            self.clock.advance(SCHEDULE.longest_retry + SCHEDULE.lease);
            self.await_couriers().await?;
            for who in Party::ALL {
                self.pull_all(who).await?;
            }
            let filter = OutboxFilter {
                state: None,
                recipient: None,
                created_before: jiff::Timestamp::MAX,
                after: None,
            };
            left = self.store().outbox(&filter, 1000).await.unwrap();
            if left.iter().all(|record| record.state == DeliveryState::Dead) {
                break;
            }
        }
        stop.send_replace(true);
        for courier in running {
            courier.await.map_err(|error| format!("a courier ended badly: {error}"))?;
        }
        self.network.broken().map_or(Ok(left), Err)
    }

    /// Wakes the couriers and waits until nothing is due by push, nor on its way.
    async fn await_couriers(&self) -> Held {
        let inboxes: Vec<_> = self.push.iter().map(|party| party.code()).collect();
        let waiting = async {
            loop {
                for courier in &self.gateway().couriers {
                    courier.outbox.notify_one();
                }
                let due = self.store().recipients_due(&inboxes, self.now()).await.unwrap();
                if due.is_empty() && self.gateway().disk.open() == 0 {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let patience = Duration::from_secs(30);
        tokio::time::timeout(patience, waiting).await.map_err(|_| "what is due stays due".to_owned())
    }

    async fn pull_all(&mut self, who: Party) -> Held {
        let call = Call::pull(self.request_id(), who);
        let Said::Done(reply) = call.make(self.gateway()).await else {
            return Err(format!("{who:?} cannot pull"));
        };
        for delivery in reply.pulled {
            self.network.books(|books| books.enter(who, &delivery))?;
            let (id, digest) = (self.request_id(), delivery.message_sha256.as_slice());
            let call = Call::acknowledge(id, (who, 0), &delivery.delivery_id, Some(digest));
            if let Said::Refused { reason, .. } = call.make(self.gateway()).await {
                return Err(format!("{who:?} cannot acknowledge: {reason}"));
            }
        }
        Ok(())
    }

    /// Everything that was ever accepted is with its recipient, word for word.
    async fn check_nothing_is_lost(&self, accepted: &Model) -> Held {
        for parcel in &accepted.parcels {
            let (thread, sequence, to) = (parcel.thread, parcel.sequence, parcel.to);
            let id = parcel.id.unwrap().to_string();
            let taken = self.network.books(|books| books.taken(to, &id).cloned());
            let taken = taken
                .ok_or(format!("message {sequence} of exchange {thread} is lost on its way to {to:?}"))?;
            let exchange_id = accepted.threads[thread].id.unwrap();
            let stored = self.store().message(&exchange_id, sequence).await.unwrap();
            let expected = (exchange_id.to_string(), sequence, stored.sha256.to_vec());
            if (taken.exchange_id, taken.sequence, taken.digest) != expected {
                return Err(format!("{to:?} has another message than {sequence} of exchange {thread}"));
            }
        }
        for (at, thread) in accepted.threads.iter().enumerate() {
            let messages: BTreeSet<_> = accepted
                .parcels
                .iter()
                .filter(|parcel| parcel.thread == at)
                .map(|parcel| parcel.sequence)
                .collect();
            if !messages.into_iter().eq(1..=thread.messages) {
                return Err(format!("a message of exchange {at} has no delivery"));
            }
        }
        Ok(())
    }

    /// Each time that a courier took a delivery is a REQUEST in the log, and it ended as it did.
    fn check_attempts(&self, model: &Model) -> Held {
        let mut requests: BTreeMap<String, BTreeMap<u64, Option<&Entry>>> = BTreeMap::new();
        for (index, entry) in self.entries().iter().filter(|(_, entry)| entry.method == "Deliver") {
            let attempts = requests.entry(entry.delivery.unwrap().to_string()).or_default();
            match (entry.phase, entry.request_index) {
                (Phase::Request, _) => drop(attempts.insert(*index, None)),
                (_, Some(request)) => drop(attempts.insert(request, Some(entry))),
                _ => return Err(format!("entry {index} of a delivery ends nothing")),
            }
        }
        for parcel in &model.parcels {
            let attempts = requests.remove(&parcel.id.unwrap().to_string()).unwrap_or_default();
            let reason = |end: &Option<&Entry>| end.map(|end| end.reason.clone().unwrap_or_default());
            let mut ends: Vec<_> = attempts.values().filter_map(reason).collect();
            ends.sort_unstable();
            let mut expected: Vec<_> = parcel.ends.clone();
            expected.sort_unstable();
            if attempts.len() != parcel.leases || ends != expected {
                let (thread, sequence, leases) = (parcel.thread, parcel.sequence, parcel.leases);
                let attempts = attempts.len();
                return Err(format!(
                    "message {sequence} of exchange {thread}: {attempts} attempts in the log ended as {ends:?}, \
                     {leases} were made and ended as {expected:?}"
                ));
            }
        }
        match requests.keys().next() {
            Some(unknown) => Err(format!("the log has attempts at an unknown delivery {unknown}")),
            None => Ok(()),
        }
    }

    /// The log holds everything that was signed and everything that was answered, and every REQUEST has one end.
    pub(super) async fn check_log(&self) -> Held {
        let key = log_key().verifying_key().to_string();
        let found = log::read(&self.place().join("gateway.db"), &key, &self.checkpoints).await;
        if !found.report.is_sound() {
            return Err(format!("the log does not verify: {:?}", found.report.findings));
        }
        if found.report.earlier_checked != self.checkpoints.len() as u64 {
            return Err("the log lacks what was signed before".to_owned());
        }
        if let Some((request, ends)) = found.ends().iter().find(|(_, ends)| ends.len() != 1) {
            return Err(format!("REQUEST {request} has the ends {ends:?}"));
        }
        for answer in &self.answers {
            let entry = usize::try_from(answer.entry).ok().and_then(|index| found.entries.get(index));
            let index = answer.entry;
            let entry = entry.ok_or(format!("entry {index} of an answer is not in the log"))?;
            let fits = match &answer.reason {
                None => entry.phase == Phase::Response && entry.code.as_deref() == Some("OK"),
                Some(reason) => {
                    matches!(entry.phase, Phase::Refused | Phase::Response)
                        && entry.reason.as_deref() == Some(reason)
                }
            };
            if !fits || entry.request != Some(answer.request_id) {
                return Err(format!("entry {index} is not that of the answer: {entry:?}"));
            }
        }
        Ok(())
    }
}
