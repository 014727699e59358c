//! What the store does, the same on each database.

mod agreements;
mod deliveries;
mod nodes;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::database::sql;
use super::databases_in_tests::{Place, on_each_database};
use super::*;
use crate::audit::entry::{Entry, Phase, Salt};
use crate::audit::fsck::Packed;
use crate::audit::log::{self, AppendError, Opened, Storage as _};
use crate::audit::merkle::Hash;
use crate::audit::note::SigningKey;
use crate::audit::removal::{IndexRanges, RemovalKind};
use crate::audit::tile::TileId;
use crate::audit::verifier::Verifier;
use crate::clock::Clock;
use crate::domain::agency::CreditCode;
use crate::domain::exchange::{
    Change, DeliveryId, DeliveryState, ExchangeId, ExchangeState, Kind, RequestId, ResponseKind,
    VerificationId,
};
use crate::domain::region::RegionCode;
use crate::domain::verification::VerificationState;

const START: Timestamp = Timestamp::constant(1_793_584_800, 0);

/// How long something may take that has no event to wait for.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

fn at(seconds: i64) -> Timestamp {
    START + SignedDuration::from_secs(seconds)
}

fn centre() -> CreditCode {
    CreditCode::parse("12331004MB0000002T").unwrap()
}

fn court() -> CreditCode {
    CreditCode::parse("11331004MB00000031").unwrap()
}

fn request(number: u128) -> RequestId {
    RequestId::new(Uuid::from_u128(number))
}

fn exchange_id(number: u128) -> ExchangeId {
    ExchangeId::new(Uuid::from_u128(number))
}

fn key() -> SigningKey {
    SigningKey::from_seed("log.example", &[3; 32]).unwrap()
}

/// A log that is written to.
struct Scene {
    store: Store,
    log: AuditLog,
    writer: tokio::task::JoinHandle<()>,
    clock: Clock,
    interrupted: usize,
}

impl Scene {
    async fn open(place: &Place) -> Self {
        Self::of(place.open().await).await
    }

    async fn of(store: Store) -> Self {
        Self::at(store, START).await
    }

    async fn at(store: Store, time: Timestamp) -> Self {
        let clock = Clock::moved_by_hand(time);
        let opened = log::open(store.clone().into(), key(), clock.clone(), 1000, None).await.unwrap();
        let Opened { log, interrupted, writer } = opened;
        Self { store, log, writer, clock, interrupted }
    }

    async fn close(self) {
        drop(self.log);
        self.writer.await.unwrap();
        self.store.close().await;
    }

    fn entry(&self, phase: Phase, request_index: Option<u64>) -> Entry {
        let id = crate::entropy::uuid_v7(self.clock.now());
        let node = self.store.node.as_ref().map_or("node-1", |node| node.name.as_str());
        let mut entry = Entry::new(id, phase, self.clock.now(), "service", "Method", node);
        entry.request_index = request_index;
        entry
    }

    async fn append(&self, phase: Phase, effects: Vec<Effect>) -> Result<u64, AppendError<Rejection>> {
        self.log.append(self.entry(phase, None), Salt([7; 64]), effects).await
    }

    async fn event(&self, effect: Effect) -> Result<u64, AppendError<Rejection>> {
        self.append(Phase::Event, vec![effect]).await
    }

    async fn claim(&self, number: u128) -> Result<u64, AppendError<Rejection>> {
        let claim =
            Effect::Claim { caller: centre(), request_id: request(number), digest: [number as u8; 32] };
        self.append(Phase::Request, vec![claim]).await
    }

    async fn answer(&self, number: u128, request_index: u64, answer: &[u8], when: Timestamp) -> u64 {
        let response = self.store.seal_outcome(request_index, answer);
        let outcome = Effect::Outcome {
            caller: centre(),
            request_id: request(number),
            request_index,
            response,
            at: when,
        };
        let entry = self.entry(Phase::Response, Some(request_index));
        self.log.conclude(entry, Salt([8; 64]), vec![outcome]).await.unwrap()
    }

    async fn open_exchange(&self, number: u128) {
        self.open_exchange_of(centre(), number).await;
    }

    async fn open_exchange_of(&self, sender: CreditCode, number: u128) {
        let id = exchange_id(number);
        let new = NewExchange {
            exchange_id: id,
            kind: Kind::FeeWaiver,
            sender,
            recipient: court(),
            matter_id: format!("M-{number}"),
            region: RegionCode::parse("331004").unwrap(),
            track: None,
            at: at(number as i64),
            message: self.store.seal_message(&id, 1, b"the household's papers"),
            delivery: NewDelivery { delivery_id: delivery_id(number), sender, recipient: court() },
        };
        self.event(Effect::OpenExchange(Box::new(new))).await.unwrap();
    }

    async fn settle(&self, number: u128, lease: Option<Uuid>, outcome: DeliveryOutcome, when: Timestamp) {
        let settle = Effect::Settle {
            delivery_id: delivery_id(number),
            exchange_id: exchange_id(number),
            lease,
            outcome,
            at: when,
        };
        self.event(settle).await.unwrap();
    }
}

fn delivery_id(number: u128) -> DeliveryId {
    DeliveryId::new(Uuid::from_u128(1000 + number))
}

on_each_database! {
    async fn what_is_appended_is_one_log_under_one_signature(place: Place) {
        let scene = Scene::open(&place).await;
        let mut appended = tokio::task::JoinSet::new();
        for _ in 0..700 {
            let (log, entry) = (scene.log.clone(), scene.entry(Phase::Read, None));
            appended.spawn(async move { log.append(entry, Salt([7; 64]), Vec::new()).await.unwrap() });
        }
        let mut indices = appended.join_all().await;
        indices.sort_unstable();
        assert_eq!(indices, (0..700).collect::<Vec<_>>());
        let head = scene.store.head().await.unwrap().unwrap();
        assert_eq!((head.size, head.root), (700, scene.log.head().root));

        let reader = place.open_to_read().await;
        let mut verifier = Verifier::start(&head.checkpoint, key().verifying_key(), &[]).unwrap();
        let entries = reader.entries_with_hashes(0, 1000).await.unwrap();
        entries.iter().for_each(|stored| verifier.feed(stored));
        let report = verifier.finish();
        assert!(report.is_sound(), "{:?}", report.findings);
        // What is appended meanwhile is not seen, by none of the connections.
        scene.append(Phase::Read, Vec::new()).await.unwrap();
        let mut heads = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let reader = reader.clone();
            heads.spawn(async move { reader.head().await.unwrap().unwrap().size });
        }
        assert_eq!(heads.join_all().await, [700; 8]);

        // All the ways of reading entries agree.
        assert_eq!(reader.entries_in(3..650, false, 700).await.unwrap(), entries[3..650]);
        let mut backwards = reader.entries_in(3..650, true, 5).await.unwrap();
        backwards.reverse();
        assert_eq!(backwards, entries[645..650]);
        let few = reader.entries_at(&[699, 256, 0, 100_000], false).await.unwrap();
        assert_eq!(few, [&entries[0], &entries[256], &entries[699]].map(Clone::clone));
        assert_eq!(reader.entry(511).await.unwrap().as_ref(), Some(&entries[511]));
        assert!(reader.entry(700).await.unwrap().is_none());
        let look = |packed: Packed<'_>| (packed.bytes.to_vec(), packed.lengths.len(), packed.without_salts);
        let packed = reader.packed_entries(10, 20, look).await.unwrap().unwrap();
        assert_eq!(packed, (entries[10..20].iter().flat_map(|stored| stored.entry.clone()).collect(), 10, 0));
        assert!(reader.packed_entries(690, 720, look).await.unwrap().is_none());
        let leaves = reader.tiles_between(0, 0, 2).await.unwrap();
        assert_eq!(leaves.get(TileId { level: 0, index: 1 }).map(<[Hash]>::len), Some(256));
        let extent = scene.store.extent_beyond(650).await.unwrap();
        assert_eq!(extent.beyond, Some((650, 51)));
        assert_eq!(extent.tiles, [(0, 3), (1, 1)].into());
        reader.close().await;
        scene.close().await;
    }

    async fn a_request_id_is_taken_once_and_answered_the_same_again(place: Place) {
        let scene = Scene::open(&place).await;
        let first = scene.claim(1).await.unwrap();
        let again = scene.claim(1).await;
        assert!(matches!(again, Err(AppendError::Rejected(Rejection::Claimed))), "{again:?}");
        // Two in one batch: one of them gets it.
        let (left, right) = tokio::join!(scene.claim(2), scene.claim(2));
        assert!(left.is_ok() != right.is_ok(), "{left:?} {right:?}");
        let running = scene.store.claim(&centre(), &request(1)).await.unwrap().unwrap();
        assert_eq!((running.request_index, running.digest), (first, [1; 32]));
        assert!(running.outcome.is_none());
        let answered = scene.answer(1, first, b"granted", at(0)).await;
        let kept = scene.store.claim(&centre(), &request(1)).await.unwrap().unwrap();
        assert_eq!(kept.outcome, Some((answered, b"granted".to_vec())));
        assert_eq!(scene.store.outcome(first).await.unwrap().as_deref(), Some(b"granted".as_slice()));
        assert!(scene.store.claim(&court(), &request(1)).await.unwrap().is_none());

        // One that was given back is free; one that was answered is not given back.
        let release = |number, request_index| Effect::Release {
            caller: centre(),
            request_id: request(number),
            request_index,
        };
        scene.event(release(1, first)).await.unwrap();
        assert!(scene.claim(1).await.is_err());
        let third = scene.claim(3).await.unwrap();
        scene.event(release(3, third)).await.unwrap();
        scene.claim(3).await.unwrap();

        assert_eq!(scene.store.forget_outcomes(at(0), 10).await.unwrap(), 0);
        assert_eq!(scene.store.forget_outcomes(at(1), 10).await.unwrap(), 1);
        assert!(scene.store.outcome(first).await.unwrap().is_none());
        scene.claim(1).await.unwrap();
        scene.close().await;
    }

    async fn requests_that_a_sudden_end_left_open_are_closed_at_the_next_start(place: Place) {
        let scene = Scene::open(&place).await;
        let (open, closed) = (scene.claim(1).await.unwrap(), scene.claim(2).await.unwrap());
        scene.answer(2, closed, b"done", at(0)).await;
        assert_eq!(scene.store.open_from().await.unwrap(), open);
        scene.close().await;
        let scene = Scene::open(&place).await;
        assert_eq!(scene.interrupted, 1);
        assert_eq!(scene.store.open_from().await.unwrap(), scene.log.head().size);
        let last = scene.store.entry(scene.log.head().size - 1).await.unwrap().unwrap();
        let last = Entry::from_json(&last.entry).unwrap();
        assert_eq!((last.phase, last.request_index), (Phase::Interrupted, Some(open)));
        scene.close().await;
    }

    async fn an_exchange_is_found_by_its_parties_and_goes_its_way(place: Place) {
        let scene = Scene::open(&place).await;
        let store = &scene.store;
        for number in 1..=3 {
            scene.open_exchange(number).await;
        }
        let id = exchange_id(2);
        let stranger = CreditCode::parse("91110000600037341L").unwrap();
        assert!(store.exchange(&id, &stranger).await.unwrap().is_none());
        let found = store.exchange(&id, &court()).await.unwrap().unwrap();
        assert_eq!((found.matter_id.as_str(), found.state), ("M-2", ExchangeState::Submitted));
        assert_eq!(store.message(&id, 1).await.unwrap().message, b"the household's papers");
        assert_eq!(store.messages(&id).await.unwrap().len(), 1);
        let ids = |found: &[ExchangeRecord]| found.iter().map(|found| found.exchange_id).collect::<Vec<_>>();
        let all = store.exchanges(&centre(), &ExchangeFilter::default(), 2).await.unwrap();
        assert_eq!(ids(&all), [exchange_id(3), exchange_id(2)]);
        let rest = ExchangeFilter { before: Some(exchange_id(2)), ..ExchangeFilter::default() };
        assert_eq!(ids(&store.exchanges(&court(), &rest, 5).await.unwrap()), [exchange_id(1)]);
        let of_matter = ExchangeFilter { matter_id: Some("M-3".to_owned()), ..ExchangeFilter::default() };
        assert_eq!(store.exchanges(&centre(), &of_matter, 5).await.unwrap().len(), 1);
        let delivered = ExchangeFilter { state: Some(ExchangeState::Delivered), ..ExchangeFilter::default() };
        assert!(store.exchanges(&centre(), &delivered, 5).await.unwrap().is_empty());
        let overdue = ExchangeFilter { overdue: true, ..ExchangeFilter::default() };
        assert!(store.exchanges(&centre(), &overdue, 5).await.unwrap().is_empty());

        scene.settle(2, None, DeliveryOutcome::Delivered, at(10)).await;
        let answer = NewMessage {
            exchange_id: id,
            sequence: 2,
            from: ExchangeState::Delivered,
            to: ExchangeState::Received,
            response: ResponseKind::Receipt,
            due_on: None,
            at: at(11),
            message: store.seal_message(&id, 2, b"received"),
            delivery: NewDelivery { delivery_id: delivery_id(50), sender: court(), recipient: centre() },
        };
        scene.event(Effect::AddMessage(Box::new(answer))).await.unwrap();
        let events = store.events_after(&centre(), 0, 10).await.unwrap();
        let changes: Vec<_> = events.iter().map(|event| (event.exchange_id, event.change, event.state)).collect();
        assert_eq!(
            changes[3..],
            [
                (id, Change::Delivered, ExchangeState::Delivered),
                (id, Change::MessageAdded, ExchangeState::Received)
            ]
        );
        assert!(events.windows(2).all(|pair| pair[0].sequence < pair[1].sequence));
        assert_eq!(store.events_after(&court(), events[3].sequence, 10).await.unwrap(), events[4..]);
        scene.close().await;
    }

    async fn who_follows_an_agency_is_woken_by_its_changes_only(place: Place) {
        let scene = Scene::open(&place).await;
        let stranger = CreditCode::parse("91110000600037341L").unwrap();
        let mut follows = scene.store.follow(&court());
        let other = scene.store.follow(&stranger);
        scene.open_exchange(1).await;
        if !scene.store.is_alone() {
            tokio::time::timeout(PATIENCE, scene.store.stirred()).await.unwrap();
            scene.store.wake_followers().await.unwrap();
        }
        tokio::time::timeout(PATIENCE, follows.changed()).await.unwrap().unwrap();
        assert!(!other.has_changed().unwrap());
        scene.close().await;
    }

    async fn deliveries_are_due_one_after_the_other_and_seen_by_the_operator(place: Place) {
        let scene = Scene::open(&place).await;
        let store = &scene.store;
        for number in 1..=3 {
            scene.open_exchange(number).await;
        }
        assert_eq!(store.recipients_due(&[centre(), court()], at(5)).await.unwrap(), [court()]);
        assert!(store.recipients_due(&[court()], at(0)).await.unwrap().is_empty());
        let (due, _) = store.due_ahead(&court(), at(2), &[], 10).await.unwrap();
        assert_eq!(due.iter().map(|due| due.delivery_id).collect::<Vec<_>>(), [delivery_id(1), delivery_id(2)]);
        let lease = Uuid::from_u128(9);
        let take = |attempts| Effect::Lease {
            delivery_id: delivery_id(1),
            attempts,
            lease,
            node: Some("node-1".to_owned()),
            until: at(60),
        };
        scene.event(take(0)).await.unwrap();
        let second = scene.event(take(0)).await;
        assert!(matches!(second, Err(AppendError::Rejected(Rejection::Conflict))), "{second:?}");
        let figures = store.outbox_figures().await.unwrap();
        assert_eq!((figures.open, figures.leased, figures.dead), (3, 1, 0));
        assert_eq!((figures.oldest, figures.first_lease_ends), (Some(at(1)), Some(at(60))));
        scene.settle(1, Some(lease), DeliveryOutcome::Dead { reason: "TOO_OLD" }, at(61)).await;
        scene.settle(2, None, DeliveryOutcome::Delivered, at(62)).await;
        let filter = |state| OutboxFilter { state, recipient: None, created_before: at(100), after: None };
        let listed = store.outbox(&filter(None), 10).await.unwrap();
        let states: Vec<_> = listed.iter().map(|record| record.state).collect();
        assert_eq!(states, [DeliveryState::Dead, DeliveryState::Pending]);
        assert_eq!(listed[0].reason.as_deref(), Some("TOO_OLD"));
        for (state, count) in [
            (DeliveryState::Pending, 1),
            (DeliveryState::Leased, 0),
            (DeliveryState::Delivered, 1),
            (DeliveryState::Dead, 1),
        ] {
            assert_eq!(store.outbox(&filter(Some(state)), 10).await.unwrap().len(), count, "{state:?}");
        }
        let after = OutboxFilter { after: Some((at(1), delivery_id(1))), recipient: Some(court()), ..filter(None) };
        assert_eq!(store.outbox(&after, 10).await.unwrap().len(), 1);
        assert_eq!(store.deliveries_of(&exchange_id(1)).await.unwrap().len(), 1);
        assert_eq!(store.outbox_delivery(&delivery_id(3)).await.unwrap().unwrap().settled, None);
        assert!(store.delivery(&delivery_id(2), &court()).await.unwrap().unwrap().delivered);
        assert!(store.delivery(&delivery_id(2), &centre()).await.unwrap().is_none());
        let retry = OutboxChange::RetryNow { delivery_id: delivery_id(3), at: at(70) };
        scene.event(Effect::Operate(retry)).await.unwrap();
        let again = OutboxChange::Redeliver { exchange_id: exchange_id(1), at: at(71) };
        scene.event(Effect::Operate(again)).await.unwrap();
        assert_eq!(store.outbox_figures().await.unwrap().dead, 0);
        scene.close().await;
    }

    async fn a_question_is_asked_again_and_its_answer_goes_into_the_outbox(place: Place) {
        let scene = Scene::open(&place).await;
        let store = &scene.store;
        let id = |number: u128| VerificationId::new(Uuid::from_u128(number));
        for number in 1..=2 {
            let new = NewVerification {
                verification_id: id(number),
                kind: Kind::LowIncomeQuery,
                caller: centre(),
                registry: court(),
                matter_id: "M".to_owned(),
                at: at(0),
                due: at(10),
                question: store.seal_question(&id(number), b"who"),
            };
            scene.event(Effect::PutOff(Box::new(new))).await.unwrap();
        }
        assert!(store.due_verifications(at(9), 5).await.unwrap().is_empty());
        assert_eq!(store.due_verifications(at(10), 1).await.unwrap().len(), 1);
        assert_eq!(store.question(&id(1)).await.unwrap(), b"who");
        assert!(store.verification(&id(1), &court()).await.unwrap().is_none());
        let take = |attempts| Effect::AskAgain { verification_id: id(1), attempts, until: at(20) };
        scene.event(take(0)).await.unwrap();
        assert!(scene.event(take(0)).await.is_err());
        let step = |attempts, step| Effect::Step { verification_id: id(1), attempts, step, at: at(12) };
        scene.event(step(1, VerificationStep::Retry { due: at(30) })).await.unwrap();
        assert_eq!(store.question(&id(1)).await.unwrap(), b"who");
        let message = store.seal_message(&id(1).thread(), 1, b"on the register");
        let delivery = NewDelivery { delivery_id: delivery_id(1), sender: court(), recipient: centre() };
        let ended = VerificationStep::Ended { state: VerificationState::Answered, message, delivery };
        scene.event(step(1, ended)).await.unwrap();
        assert!(store.question(&id(1)).await.is_err(), "it is gone");
        assert_eq!(store.standing(&id(1).thread()).await.unwrap(), Standing::Running, "its answer waits");
        scene.settle(1, None, DeliveryOutcome::Delivered, at(13)).await;
        assert_eq!(store.standing(&id(1).thread()).await.unwrap(), Standing::Ended);
        assert_eq!(store.standing(&id(2).thread()).await.unwrap(), Standing::Running);
        assert_eq!(store.standing(&exchange_id(77)).await.unwrap(), Standing::Gone);
        scene.close().await;
    }

    async fn a_removal_takes_what_it_says_and_leaves_the_rest(place: Place) {
        let scene = Scene::open(&place).await;
        let store = &scene.store;
        let first = scene.claim(1).await.unwrap();
        scene.answer(1, first, b"granted", at(0)).await;
        for number in 1..=2 {
            scene.open_exchange(number).await;
            scene.settle(number, None, DeliveryOutcome::Delivered, at(10)).await;
        }
        let removal_id = Uuid::from_u128(1);
        let new = NewRemoval {
            removal_id,
            caller: centre(),
            kind: RemovalKind::Subject,
            dry_run: false,
            before: None,
            pseudonyms: vec!["p".to_owned()],
            event: vec![1, 2],
            at: at(20),
        };
        scene.event(Effect::BeginRemoval(Box::new(new))).await.unwrap();
        let open = store.open_removal().await.unwrap().unwrap();
        assert_eq!((open.removal_id, open.state, open.pseudonyms), (removal_id, RemovalState::Counting, vec!["p".to_owned()]));
        store.note_removal(&removal_id, RemovalState::Removing, 3).await.unwrap();
        let step = |kind, entries: &[u64], threads: Vec<ExchangeId>| {
            let mut ranges = IndexRanges::default();
            entries.iter().for_each(|index| ranges.push(*index));
            let step = RemovalStep { removal_id, kind, entries: ranges, threads, detaches: None, by: centre(), at: at(21) };
            Effect::Remove(Box::new(step))
        };
        let told = scene.event(step(RemovalKind::Subject, &[0, 1], vec![exchange_id(1)])).await.unwrap();
        assert_eq!(store.entries_without_salts(0, 10).await.unwrap(), [0, 1]);
        assert!(store.is_erased(&exchange_id(1)).await.unwrap());
        assert!(store.keeps_exchange(&exchange_id(1)).await.unwrap());
        assert!(store.message(&exchange_id(1), 1).await.is_err(), "it is overwritten");
        assert!(store.outcome(first).await.unwrap().is_none());
        assert!(store.claim(&centre(), &request(1)).await.unwrap().is_none());
        assert_eq!(store.removal_of(1).await.unwrap(), Some(told));
        assert_eq!(store.removal_of(2).await.unwrap(), None);
        let removable = store.removable_entries(0, 3).await.unwrap();
        assert_eq!(removable.iter().map(|entry| entry.has_salts).collect::<Vec<_>>(), [false, false, true]);

        scene.event(step(RemovalKind::Period, &[2], Vec::new())).await.unwrap();
        scene.event(step(RemovalKind::Retention, &[3], vec![exchange_id(2)])).await.unwrap();
        assert!(!store.keeps_exchange(&exchange_id(2)).await.unwrap());
        let pruned = store.entry(3).await.unwrap().unwrap();
        assert!(pruned.is_pruned() && pruned.leaf_hash.is_some());
        let entries = store.entries_at(&[2, 3, 4], false).await.unwrap();
        assert_eq!(entries, store.entries_in(2..5, false, 3).await.unwrap());
        assert_eq!(entries[1], pruned);
        assert_eq!(store.removable_entries(3, 1).await.unwrap()[0].index, 4);
        assert_eq!(store.threads_before(at(100)).await.unwrap().len(), 1);
        let end = RemovalEnd { removal_id, state: RemovalState::Done, counts: None, obstacles: Vec::new(), at: at(30) };
        scene.event(Effect::EndRemoval(end)).await.unwrap();
        let done = store.removal(&removal_id, &centre()).await.unwrap().unwrap();
        assert_eq!((done.state, done.entries, done.exchanges), (RemovalState::Done, 4, 2));
        store.rebuild_moving_tables().await.unwrap();
        while !store.empty_write_ahead_log().await.unwrap() {}
        assert!(store.open_removal().await.unwrap().is_none());
        scene.close().await;
    }

    async fn keys_marks_and_cosignatures_are_kept(place: Place) {
        let scene = Scene::open(&place).await;
        let store = &scene.store;
        for (key, again) in [(KeyUse::Pseudonym, false), (KeyUse::Body, true)] {
            let adoption = |name: &str, seconds| KeyAdoption { key, fingerprint: name.to_owned(), at: at(seconds) };
            let adopt = |adoption| scene.event(Effect::AdoptKey(Box::new(adoption)));
            store.adopt_first_key(&adoption("one", 5)).await.unwrap();
            adopt(adoption("two", 6)).await.unwrap();
            // A gateway whose clock is behind.
            adopt(adoption("three", 1)).await.unwrap();
            // A key of pseudonyms is adopted once; each gateway seals with a new one in its own time.
            assert_eq!(adopt(adoption("two", 9)).await.is_ok(), again);
            assert_eq!(store.adopted_keys(key).await.unwrap(), ["three", "two", "one"]);
        }
        let cosignature = |size, witness: &str| CosignatureRecord {
            size,
            witness: witness.to_owned(),
            checkpoint: format!("log.example\n{size}\n"),
            line: "— w\n".to_owned(),
        };
        for (size, witness) in [(5, "a"), (5, "b"), (9, "a")] {
            store.keep_cosignature(&cosignature(size, witness), 5, 0).await.unwrap();
        }
        store.keep_cosignature(&cosignature(12, "b"), 9, 9).await.unwrap();
        assert_eq!(store.cosignatures().await.unwrap(), [cosignature(9, "a"), cosignature(12, "b")]);
        store.forget_cosignatures().await.unwrap();
        assert!(store.cosignatures().await.unwrap().is_empty());
        assert!(store.overdue_counts().await.unwrap().is_empty());
        assert!(!store.log_writes().is_failing());
        store.check_writable().await.unwrap();
        store.try_write().await.unwrap();
        scene.close().await;
    }

    async fn what_holds_nothing_is_no_number(place: Place) {
        let store = place.open().await;
        let row = sql("SELECT CAST(NULL AS BIGINT), CAST(7 AS BIGINT), CAST(NULL AS TEXT)");
        let row = row.fetch_one(&store.readers).await.unwrap();
        assert!(row.try_get::<i64>(0).is_err());
        assert_eq!(row.try_get::<Option<i64>>(0).unwrap(), None);
        assert_eq!(row.try_get::<i64>(1).unwrap(), 7);
        assert!(row.try_get::<&str>(2).is_err());
        assert!(row.try_get::<&str>(1).is_err());
        store.close().await;
    }
}
