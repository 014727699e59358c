//! Agreements and their quotas, on each database.

use super::*;

/// Version `version` of an agreement, put in.
fn put(version: u32, pending: bool) -> Effect {
    let terms = format!("{{\"version\":{version}}}");
    change(version, NewAgreementState::Put { terms, digest: [version as u8; 32], pending })
}

fn change(version: u32, change: NewAgreementState) -> Effect {
    let by = ActedBy { agency: court(), operator: Some(("main".to_owned(), "o-01".to_owned())) };
    let agreement_id = "LQ".to_owned();
    Effect::ChangeAgreement(Box::new(AgreementChange { agreement_id, version, change, by, at: START }))
}

async fn states(scene: &Scene) -> Vec<(u32, AgreementState)> {
    let versions = scene.store.agreement_versions("LQ").await.unwrap();
    versions.into_iter().map(|record| (record.version, record.state)).collect()
}

fn counted(operator: &str, limits: [u32; 2]) -> Effect {
    let window = |operator: &str, limit| QuotaWindow {
        operator: operator.to_owned(),
        period: QuotaPeriod::Hour,
        begins: START,
        ends: at(3600),
        limit,
    };
    Effect::CountUse(Box::new(QuotaUse {
        agreement_id: "LQ".to_owned(),
        caller: centre(),
        windows: vec![window("", limits[0]), window(operator, limits[1])],
    }))
}

on_each_database! {
    async fn of_an_agreement_one_version_is_effective_and_every_change_is_counted(place: Place) {
        use AgreementState::{Effective, Ended, Pending, Superseded};
        let scene = Scene::open(&place).await;
        assert_eq!(scene.store.agreement_changes().await.unwrap(), 0);
        let first = scene.event(put(1, false)).await.unwrap();
        assert!(matches!(scene.event(put(1, false)).await, Err(AppendError::Rejected(Rejection::Conflict))));

        // What waits takes nothing's place, but what waited before it.
        scene.event(put(2, true)).await.unwrap();
        scene.event(put(3, true)).await.unwrap();
        assert_eq!(states(&scene).await, [(3, Pending), (2, Superseded), (1, Effective)]);
        let gone = scene.event(change(2, NewAgreementState::Approve)).await;
        assert!(matches!(gone, Err(AppendError::Rejected(Rejection::Conflict))));
        scene.event(change(3, NewAgreementState::Approve)).await.unwrap();
        assert_eq!(states(&scene).await, [(3, Effective), (2, Superseded), (1, Superseded)]);
        let effective = scene.store.effective_agreements().await.unwrap();
        assert_eq!(effective.iter().map(|(_, terms)| terms.as_str()).collect::<Vec<_>>(), ["{\"version\":3}"]);

        scene.event(put(4, true)).await.unwrap();
        scene.event(change(3, NewAgreementState::End)).await.unwrap();
        let again = scene.event(change(3, NewAgreementState::End)).await;
        assert!(matches!(again, Err(AppendError::Rejected(Rejection::Conflict))));
        assert_eq!(states(&scene).await, [(4, Superseded), (3, Ended), (2, Superseded), (1, Superseded)]);
        assert!(scene.store.effective_agreements().await.unwrap().is_empty());
        assert_eq!(scene.store.newest_agreement_versions().await.unwrap()["LQ"].0, 4);

        // Six changes were made; those that were rejected are none.
        assert_eq!(scene.store.agreement_changes().await.unwrap(), 6);
        let versions = scene.store.agreement_versions("LQ").await.unwrap();
        let put_first = &versions.last().unwrap().acts;
        assert_eq!((put_first.len(), put_first[0].act, put_first[0].entry), (1, AgreementAct::Put, first));
        let page = scene.store.agreements(Some(Superseded), ("LQ", 1), 10).await.unwrap();
        assert_eq!(page.iter().map(|record| record.version).collect::<Vec<_>>(), [2, 4]);
        scene.close().await;
    }

    async fn a_quota_lets_pass_what_it_says_however_many_come_in_one_batch(place: Place) {
        let scene = Scene::open(&place).await;
        let mut calling = tokio::task::JoinSet::new();
        for number in 0..40 {
            let operator = format!("main/c-{}", number % 3);
            let (log, entry) = (scene.log.clone(), scene.entry(Phase::Read, None));
            let effect = counted(&operator, [14, 5]);
            calling.spawn(async move { log.append(entry, Salt([7; 64]), vec![effect]).await });
        }
        let outcomes = calling.join_all().await;
        let (passed, spent): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
        // Of each operator five at most, and fourteen of all: what an operator asks in vain takes nothing from the others.
        assert_eq!((passed.len(), spent.len()), (14, 26));
        let is_spent = |outcome: &Result<u64, _>| {
            matches!(outcome, Err(AppendError::Rejected(Rejection::QuotaSpent)))
        };
        assert!(spent.iter().all(is_spent));
        assert_eq!(scene.log.head().size, 14, "what did not pass is no entry");
        let Effect::CountUse(call) = counted("main/c-0", [14, 6]) else { unreachable!() };
        assert_eq!(scene.store.spent_window(&call).await.unwrap().unwrap().operator, "");
        let Effect::CountUse(wider) = counted("main/c-3", [15, 5]) else { unreachable!() };
        assert_eq!(scene.store.spent_window(&wider).await.unwrap(), None);

        assert_eq!(scene.store.forget_quota_use(START).await.unwrap(), 0);
        assert_eq!(scene.store.forget_quota_use(at(1)).await.unwrap(), 4);
        scene.event(counted("main/c-0", [14, 5])).await.unwrap();
        scene.close().await;
    }
}
