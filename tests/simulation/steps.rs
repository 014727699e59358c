//! The steps of a run: what an operation does to the gateway, and what it means to the model.

use std::sync::Arc;

use legal_aid_gateway::delivery::courier;
use legal_aid_gateway::store::DeliveryRecord;

use super::calls::{Call, Said, look};
use super::model::{Expected, Heard, Model};
use super::op::{Deed, Fate, Fault, Op, Second};
use super::parties::{Party, directory};
use super::world::{Answered, Attempt, Doing, Held, Process, World};

impl World {
    pub(super) async fn step(&mut self, op: Op) -> Held<Process> {
        match op {
            Op::Call(deed) => match self.call_of(deed) {
                Some((call, hears)) => self.call(call, hears, false).await,
                None => Ok(Process::Runs),
            },
            Op::Overlap { first, second, entry, gone } => self.overlap(first, second, entry, gone).await,
            Op::Again { call, changed } => {
                if self.calls.is_empty() {
                    return Ok(Process::Runs);
                }
                let call = self.calls[usize::from(call) % self.calls.len()].clone();
                self.call(if changed { call.changed() } else { call }, true, true).await
            }
            Op::Attempt { courier, to, which } => self.attempt(courier, to, which).await,
            Op::Resolve { which, fate } => self.resolve(which, fate).await,
            Op::Land { which } => {
                self.network.land(which.into())?;
                Ok(Process::Runs)
            }
            Op::Look => self.look().await,
            Op::Wait(span) => {
                self.clock.advance(span.duration());
                Ok(Process::Runs)
            }
            Op::Switch(party) => {
                if !self.push.contains(&party) {
                    self.push.push(party);
                } else {
                    self.push.retain(|other| *other != party);
                }
                self.directory.store(Arc::new(directory(&self.push)));
                Ok(Process::Runs)
            }
            Op::Crash { skew, kept } => Ok(Process::Crashed { skew, kept }),
            Op::Disk { fault, after } => {
                self.gateway().disk.strike(fault, after.into());
                Ok(Process::Runs)
            }
        }
    }

    async fn call(&mut self, call: Call, hears: bool, again: bool) -> Held<Process> {
        let (doing, _) = self.begin_work(call.make(self.gateway()));
        self.until(|| doing.is_done()).await?;
        let said = doing.take();
        let struck = self.gateway().disk.struck();
        if !again {
            self.calls.push(call.clone());
        }
        self.take_in(&call, said.as_ref(), struck.is_some(), again)?;
        if hears {
            self.enter_what_was_pulled(&call, said.as_ref())?;
        }
        self.after(struck).await
    }

    /// Moves the models by a call and its answer, and drops those that do not fit. A call that was not answered may have
    /// been carried out or not.
    fn take_in(&mut self, call: &Call, said: Option<&Said>, may_fail: bool, again: bool) -> Held {
        let now = self.now();
        self.note(call, said);
        let mut fit = Vec::new();
        let mut broken = String::new();
        for model in &self.models {
            let (after, expected) = model.apply(call, now);
            match said {
                None => fit.extend([model.clone(), after]),
                Some(Said::Refused { reason, .. }) if reason == "AUDIT_LOG_UNAVAILABLE" && may_fail => {
                    fit.extend([model.clone(), after]);
                }
                // What was right when it was first sent may be wrong by now, such as a day that has passed.
                Some(Said::Refused { reason, .. })
                    if reason == "INVALID_REQUEST" && again && !model.knows(call) =>
                {
                    fit.push(model.clone());
                }
                Some(said) => match agree(&expected, said) {
                    Ok(()) => fit.push(heard(after, call, said)),
                    Err(differs) => broken = differs,
                },
            }
        }
        self.replace_models(fit, || format!("{:?}: {broken}", call.act))
    }

    pub(super) fn replace_models(&mut self, fit: Vec<Model>, broken: impl FnOnce() -> String) -> Held {
        if fit.is_empty() {
            return Err(broken());
        }
        self.models = fit;
        Ok(())
    }

    fn note(&mut self, call: &Call, said: Option<&Said>) {
        let request_id = call.request_id;
        let (entry, reason) = match said {
            Some(Said::Done(reply)) => (Some(reply.entry), None),
            Some(Said::Refused { reason, entry }) => (*entry, Some(reason.clone())),
            None => (None, None),
        };
        self.answers.extend(entry.map(|entry| Answered { entry, request_id, reason: reason.clone() }));
        let outcome = match said {
            Some(Said::Done(_)) => "done",
            Some(Said::Refused { .. }) => reason.as_deref().unwrap_or_default(),
            None => "not answered",
        };
        self.trace.push(format!("  {:?}: {outcome}", call.act));
    }

    fn enter_what_was_pulled(&self, call: &Call, said: Option<&Said>) -> Held {
        let Some(Said::Done(reply)) = said else { return Ok(()) };
        for delivery in &reply.pulled {
            let who = Party::of(&call.caller);
            self.network.books(|books| books.enter(who, delivery))?;
        }
        Ok(())
    }

    /// After a fault of the disk, the log's own work on it is brought to its end.
    async fn after(&mut self, struck: Option<Fault>) -> Held<Process> {
        match struck {
            None => {}
            Some(Fault::CrashesBefore | Fault::CrashesAfter) => {
                return Ok(Process::Crashed { skew: 0, kept: 0b0110_0011 });
            }
            Some(Fault::FailsBefore | Fault::FailsAfter) => {
                let id = self.request_id();
                look(self.gateway(), id)
                    .await
                    .map_err(|status| format!("the log stays unwritable: {status:?}"))?;
                let (disk, attempts) = (self.gateway().disk.clone(), self.attempts.len());
                self.until(|| disk.open() <= attempts).await?;
            }
        }
        let (open, attempts) = (self.gateway().disk.open(), self.attempts.len());
        if open != attempts {
            return Err(format!("{open} REQUESTs are open, {attempts} attempts are under way"));
        }
        Ok(Process::Runs)
    }

    /// The second call comes while an entry of the first is on its way to the disk. They have to look as if one had come
    /// after the other.
    async fn overlap(&mut self, first: Deed, second: Second, entry: u8, gone: bool) -> Held<Process> {
        let Some((first_call, _)) = self.call_of(first) else { return Ok(Process::Runs) };
        let second_call = match second {
            Second::Same => Some(first_call.clone()),
            Second::Other(deed) => self.call_of(deed).map(|(call, _)| call),
        };
        let Some(second_call) = second_call else { return Ok(Process::Runs) };
        // A pull reads between its two entries: only behind the second is its place certain.
        let pulls = matches!(first, Deed::Pull { .. }) || matches!(second, Second::Other(Deed::Pull { .. }));
        let after = if pulls { 1 } else { u64::from(entry) - 1 };
        let disk = self.gateway().disk.clone();
        disk.spare();
        disk.hold(after);
        let (doing, task) = self.begin_work(first_call.make(self.gateway()));
        self.until(|| doing.is_done() || disk.holds()).await?;
        let gone = gone && disk.holds();
        if gone {
            task.abort();
        }
        let (doing_too, _) = self.begin_work(second_call.make(self.gateway()));
        if disk.holds() {
            let log = self.gateway().log.clone();
            // It ends, or its entry waits behind the one that is held.
            while !doing_too.is_done() && log.waiting() == 0 {
                tokio::task::yield_now().await;
            }
        }
        disk.let_go();
        self.until(|| doing_too.is_done() && (gone || doing.is_done()) && disk.open() == self.attempts.len())
            .await?;
        let (said, said_too) = (doing.take(), doing_too.take());
        self.calls.extend([first_call.clone(), second_call.clone()]);
        let before = self.models.clone();
        let forward = self
            .take_in(&first_call, said.as_ref(), false, false)
            .and_then(|()| self.take_in(&second_call, said_too.as_ref(), false, true));
        let moved = std::mem::replace(&mut self.models, before);
        let forward = forward.map(|()| moved);
        let backward = self
            .take_in(&second_call, said_too.as_ref(), false, false)
            .and_then(|()| self.take_in(&first_call, said.as_ref(), false, true));
        let mut fit = match &forward {
            Ok(models) => models.clone(),
            Err(_) => Vec::new(),
        };
        if backward.is_ok() {
            fit.append(&mut self.models);
        }
        self.replace_models(fit, || format!("overlapping: {}", forward.err().unwrap_or_default()))?;
        self.enter_what_was_pulled(&first_call, said.as_ref())?;
        self.enter_what_was_pulled(&second_call, said_too.as_ref())?;
        self.after(None).await
    }

    /// A courier takes a delivery to this agency, or rather to another than none.
    async fn attempt(&mut self, courier: u8, to: Party, which: u8) -> Held<Process> {
        for to in [to].into_iter().chain(Party::ALL) {
            if let Some((parcel, record)) = self.due_delivery(to, which).await? {
                let [first, other] = [courier, 1 - courier].map(usize::from);
                let under_way = self.attempts.len();
                let process = self.hand_over(first, to, parcel, &record).await?;
                // The other courier may have seen it due as well, and comes too late.
                if self.attempts.len() > under_way && which % 4 == 1 {
                    self.come_too_late(other, to, record).await?;
                }
                return Ok(process);
            }
        }
        Ok(Process::Runs)
    }

    /// One of the deliveries that are due to an agency that takes push: those that should be, and no others.
    async fn due_delivery(&self, to: Party, which: u8) -> Held<Option<(usize, DeliveryRecord)>> {
        if !self.push.contains(&to) {
            return Ok(None);
        }
        let (now, model) = (self.now(), &self.models[0]);
        let (ahead, _) = self.store().due_ahead(&to.code(), now, &[], 100).await.unwrap();
        let ahead: Vec<_> = ahead.iter().map(|due| due.delivery_id).collect();
        let found = self.store().parcels(&to.code(), now, &ahead).await.unwrap();
        let found: Vec<_> = found.into_iter().map(|parcel| parcel.record).collect();
        let due = model.due(to, now);
        let place = |record: &DeliveryRecord| {
            due.iter().copied().find(|at| model.parcels[*at].id == Some(record.delivery_id))
        };
        let [have, expected] = [found.len(), due.len()];
        if have != expected || found.iter().any(|record| place(record).is_none()) {
            return Err(format!(
                "{have} deliveries to {to:?} are due, there should be {expected}, or others"
            ));
        }
        let Some(chosen) = usize::from(which).checked_rem(due.len()) else { return Ok(None) };
        let record = found.into_iter().find(|record| place(record) == Some(due[chosen]));
        Ok(record.map(|record| (due[chosen], record)))
    }

    async fn hand_over(
        &mut self,
        courier: usize,
        to: Party,
        parcel: usize,
        record: &DeliveryRecord,
    ) -> Held<Process> {
        let (number, delivery) = (record.attempts + 1, record.delivery_id.to_string());
        let (now, kept) = (self.now(), self.network.kept());
        let doing = self.begin_attempt(courier, to, record.clone()).await;
        self.until(|| doing.is_done() || self.network.kept() > kept).await?;
        let struck = self.gateway().disk.struck();
        if self.network.keeps(&delivery, number) {
            for model in &mut self.models {
                model.lease(parcel, now);
            }
            self.attempts.push(Attempt { parcel, number, delivery, doing });
            return self.after(struck).await;
        }
        let Some(fault) = struck else {
            return Err("an attempt ended before it handed over, or handed over something else".to_owned());
        };
        // Nobody knows whether the lease was written; if so, its REQUEST ends as interrupted.
        let crashed = matches!(fault, Fault::CrashesBefore | Fault::CrashesAfter);
        let leased = self.models.clone().into_iter().map(|mut model| {
            model.lease(parcel, now);
            if !crashed {
                model.interrupt(parcel);
            }
            model
        });
        let leased: Vec<_> = leased.collect();
        self.models.extend(leased);
        self.after(struck).await
    }

    /// A courier that read of a delivery before another took it gets nothing to hand over.
    async fn come_too_late(&self, courier: usize, to: Party, record: DeliveryRecord) -> Held {
        self.gateway().disk.spare();
        let kept = self.network.kept();
        let late = self.begin_attempt(courier, to, record).await;
        self.until(|| late.is_done() || self.network.kept() > kept).await?;
        if late.is_done() { Ok(()) } else { Err("two couriers hand over one attempt".to_owned()) }
    }

    async fn begin_attempt(
        &self,
        courier: usize,
        to: Party,
        record: DeliveryRecord,
    ) -> Doing<courier::Attempt> {
        let agency = self.directory.load().agency(&to.code()).unwrap().clone();
        let message = self.store().message(&record.exchange_id, record.sequence).await.unwrap();
        let courier = self.gateway().couriers[courier].clone();
        self.begin_work(async move { courier.attempt(&agency, &record, message).await }).0
    }

    async fn resolve(&mut self, which: u8, fate: Fate) -> Held<Process> {
        if self.attempts.is_empty() {
            return Ok(Process::Runs);
        }
        let Attempt { parcel, number, delivery, doing } =
            self.attempts.remove(usize::from(which) % self.attempts.len());
        self.network.resolve(&delivery, number, fate)?;
        self.until(|| doing.is_done()).await?;
        let (now, struck) = (self.now(), self.gateway().disk.struck());
        let settled = self.models.clone().into_iter().map(|mut model| {
            model.settle(parcel, number, Heard::of(fate), now);
            model
        });
        let settled: Vec<_> = settled.collect();
        if doing.is_done() {
            self.models = settled;
        } else {
            self.models.extend(settled);
        }
        self.after(struck).await
    }

    /// The attempts that are under way come to a good end.
    pub(super) async fn resolve_all(&mut self) -> Held {
        while !self.attempts.is_empty() {
            if self.resolve(0, Fate::Arrives).await? != Process::Runs {
                return Err("the process ended by itself".to_owned());
            }
        }
        Ok(())
    }
}

fn heard(mut model: Model, call: &Call, said: &Said) -> Model {
    if let Said::Done(reply) = said {
        model.heard(call, reply);
    }
    model
}

/// Whether an answer is the one that was to be expected.
fn agree(expected: &Expected, said: &Said) -> Held {
    match (expected, said) {
        (Expected::Refused(reasons), Said::Refused { reason, .. }) if reasons.contains(&reason.as_str()) => {
            Ok(())
        }
        (Expected::Done(outcome), Said::Done(reply)) if outcome.is(reply) => Ok(()),
        (Expected::First(None), Said::Done(_)) => Ok(()),
        (Expected::First(Some(first)), Said::Done(reply)) if first.is(reply) => Ok(()),
        (Expected::First(_), Said::Done(_)) => Err("the same call got another answer than before".to_owned()),
        (Expected::Done(_), Said::Done(reply)) => Err(format!("answered with {}", reply.outline())),
        (Expected::Refused(reasons), Said::Done(_)) => {
            Err(format!("done, it should be refused: {reasons:?}"))
        }
        (Expected::Refused(reasons), Said::Refused { reason, .. }) => {
            Err(format!("refused as {reason}, it should be as one of {reasons:?}"))
        }
        (Expected::First(_), Said::Refused { reason, .. }) => {
            Err(format!("refused as {reason}; the same call was carried out before, and is answered alike"))
        }
        (Expected::Done(_), Said::Refused { reason, .. }) => {
            Err(format!("refused as {reason}, it should be done"))
        }
    }
}
