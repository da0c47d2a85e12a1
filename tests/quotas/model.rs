//! Operations at random, against a map: what fits, what is refused and how, and what
//! `usage()` says after each.

use std::collections::BTreeMap;
use std::sync::Arc;

use evenkeel::testing::Random;
use evenkeel::{Error, ManualClock, Quota, Result, Scope, ScopeKind, SetOptions, Store};

use crate::parts::Rig;

const KEYS: u64 = 14;

/// The limits with which the store is opened, in turns.
const LIMITS: [(u64, u64); 3] = [(8, 500), (5, 300), (1_000, 1_000_000)];

/// The length of a value, and when it expires.
type Entry = (usize, Option<u64>);

type Keys = BTreeMap<String, Entry>;

fn scopes() -> [Scope; 3] {
    [Scope::job("a"), Scope::job("b"), Scope::workflow("w")]
}

fn kind(scope: usize) -> ScopeKind {
    match scope {
        2 => ScopeKind::Workflow,
        _ => ScopeKind::Job,
    }
}

#[derive(Clone, Default)]
struct Model {
    keys: [Keys; 3],
    own: [Quota; 3],
    kinds: BTreeMap<ScopeKind, Quota>,
    limits: usize,
}

/// What entries take, as a store of their own says.
struct Scales(Store, BTreeMap<Entry, u64>);

impl Scales {
    fn bytes(&mut self, (len, deadline): Entry) -> u64 {
        let Self(store, known) = self;
        *known.entry((len, deadline)).or_insert_with(|| {
            let scope = store.global();
            scope.clear().unwrap();
            scope
                .set_with("", "x".repeat(len), options(deadline))
                .unwrap();
            scope.bytes().unwrap()
        })
    }
}

fn options(deadline: Option<u64>) -> SetOptions {
    match deadline {
        Some(deadline) => SetOptions::new().expires_at(deadline),
        None => SetOptions::new(),
    }
}

impl Model {
    fn maxima(&self, scope: usize) -> (u64, u64) {
        let of_kind = self.kinds.get(&kind(scope)).copied().unwrap_or_default();
        let own = self.own[scope];
        let (keys, bytes) = LIMITS[self.limits];
        (
            own.keys.or(of_kind.keys).unwrap_or(keys),
            own.bytes.or(of_kind.bytes).unwrap_or(bytes),
        )
    }

    fn held(&self, scope: usize, now: u64, scales: &mut Scales) -> (u64, u64) {
        let live = self.keys[scope]
            .iter()
            .filter(|(_, (_, deadline))| deadline.is_none_or(|deadline| deadline > now));
        live.fold((0, 0), |(keys, bytes), (key, entry)| {
            (keys + 1, bytes + key.len() as u64 + scales.bytes(*entry))
        })
    }
}

/// What one transaction does to one scope.
#[derive(Clone, Debug)]
enum Change {
    Put(String, Entry),
    Delete(String),
    Clear,
}

fn apply(store: &Store, changes: &[(usize, Change)]) -> Result<()> {
    if let [(scope, change)] = changes {
        let scope = store.scope(scopes()[*scope].clone());
        return match change {
            Change::Put(key, (len, deadline)) => {
                scope.set_with(key, "x".repeat(*len), options(*deadline))
            }
            Change::Delete(key) => scope.delete(key),
            Change::Clear => scope.clear(),
        };
    }
    store.transact(|tx| {
        changes.iter().try_for_each(|(scope, change)| {
            let scope = tx.scope(scopes()[*scope].clone());
            match change {
                Change::Put(key, (len, deadline)) => {
                    scope.set_with(key, "x".repeat(*len), options(*deadline))
                }
                Change::Delete(key) => scope.delete(key),
                Change::Clear => scope.clear(),
            }
        })
    })
}

/// Each limit that the changes would leave exceeded by more than before: its name, what
/// it is, what is held, what would be.
fn refusals(
    (old, new): (&Model, &Model),
    now: u64,
    scales: &mut Scales,
) -> Vec<(&'static str, u64, u64, u64)> {
    let mut refusals = Vec::new();
    for scope in 0..3 {
        let (max, held) = (old.maxima(scope), old.held(scope, now, scales));
        let after = new.held(scope, now, scales);
        if after.0 > max.0 && after.0 > held.0 {
            refusals.push(("scope_keys", max.0, held.0, after.0));
        } else if after.1 > max.1 && after.1 > held.1 {
            refusals.push(("scope_bytes", max.1, held.1, after.1));
        }
    }
    refusals
}

fn changes(random: &mut Random, now: u64) -> Vec<(usize, Change)> {
    let count = match random.below(3) {
        0 => 2 + random.below(8),
        _ => 1,
    };
    let mut changes = Vec::new();
    for _ in 0..count {
        let scope = random.below(3) as usize;
        let key = format!("k{:02}", random.below(KEYS));
        let change = match random.below(12) {
            0..3 => Change::Delete(key),
            3 if random.below(4) == 0 => Change::Clear,
            4..6 => {
                let deadline = now + random.below(30);
                Change::Put(key, (random.below(80) as usize, Some(deadline)))
            }
            _ => Change::Put(key, (random.below(80) as usize, None)),
        };
        changes.push((scope, change));
    }
    changes
}

fn quota(random: &mut Random) -> Quota {
    let mut quota = Quota::new();
    if random.below(3) > 0 {
        quota = quota.keys(random.below(KEYS));
    }
    if random.below(3) > 0 {
        quota = quota.bytes(random.below(700));
    }
    quota
}

fn check(store: &Store, model: &Model, now: u64, scales: &mut Scales, what: &str) {
    let usage = store.usage().unwrap();
    let mut sum = (0, 0);
    for (n, scope) in scopes().iter().enumerate() {
        let (held, max) = (model.held(n, now, scales), model.maxima(n));
        sum = (sum.0 + held.0, sum.1 + held.1);
        let found = store.scope(scope.clone()).usage().unwrap();
        assert_eq!((found.keys, found.bytes), held, "{what}: {scope}");
        assert_eq!((found.keys_max, found.bytes_max), max, "{what}: {scope}");
        let bad = held.0 > max.0 || held.1 > max.1;
        assert_eq!(found.quarantined, bad, "{what}: {scope}");
        let listed = usage.scopes.iter().find(|usage| usage.scope == *scope);
        let wanted = (held.0 > 0 || !model.own[n].is_none()).then_some(&found);
        assert_eq!(listed, wanted, "{what}: {scope}");
        assert_eq!(store.scope(scope.clone()).quota().unwrap(), model.own[n]);
    }
    assert_eq!((usage.keys, usage.bytes), sum, "{what}");
}

fn run(seed: u64, steps: usize) {
    let mut random = Random::new(seed);
    let mut rig = Rig::new();
    let mut model = Model::default();
    // Where nothing has expired yet.
    let early = Store::builder().clock(Arc::new(ManualClock::new(0)));
    let mut scales = Scales(early.in_memory().unwrap(), BTreeMap::new());
    let open = |rig: &Rig, model: &Model| {
        let (keys, bytes) = LIMITS[model.limits];
        rig.open_with(|limits| {
            limits.scope_keys = keys;
            limits.scope_bytes = bytes;
        })
    };
    let mut store = open(&rig, &model);
    let (mut taken, mut refused) = (0, [0, 0]);
    for step in 0..steps {
        let what = format!("seed {seed}, step {step}");
        match random.below(24) {
            0..14 => {
                let changes = changes(&mut random, rig.now());
                let mut new = model.clone();
                for (scope, change) in &changes {
                    let keys = &mut new.keys[*scope];
                    match change {
                        Change::Put(key, entry) => drop(keys.insert(key.clone(), *entry)),
                        Change::Delete(key) => drop(keys.remove(key)),
                        Change::Clear => keys.clear(),
                    }
                }
                let expected = refusals((&model, &new), rig.now(), &mut scales);
                let found = match apply(&store, &changes) {
                    Ok(()) => None,
                    Err(Error::Quarantined {
                        limit,
                        max,
                        held,
                        actual,
                        ..
                    }) => {
                        refused[1] += 1;
                        assert!(held > max, "{what}");
                        Some((limit, max, held, actual))
                    }
                    Err(Error::LimitExceeded {
                        limit,
                        max,
                        actual,
                        at,
                    }) => {
                        refused[0] += 1;
                        let same = |r: &&(&str, u64, u64, u64)| {
                            let held = format!("has {};", r.2);
                            (r.0, r.1, r.3) == (limit, max, actual)
                                && r.2 <= max
                                && at.contains(&held)
                        };
                        let held = expected.iter().find(same).map(|r| r.2);
                        let held = held.unwrap_or_else(|| panic!("{what}: {at} {expected:?}"));
                        Some((limit, max, held, actual))
                    }
                    Err(e) => panic!("{what}: {e}"),
                };
                match found {
                    None => {
                        assert_eq!(expected, [], "{what}: {changes:?}");
                        model = new;
                        taken += 1;
                    }
                    Some(found) => assert!(
                        expected.contains(&found),
                        "{what}: {changes:?}: {found:?}, not {expected:?}"
                    ),
                }
            }
            14..16 => {
                let (scope, quota) = (random.below(3) as usize, quota(&mut random));
                model.own[scope] = quota;
                store
                    .scope(scopes()[scope].clone())
                    .set_quota(quota)
                    .unwrap();
            }
            16 => {
                let (kind, quota) = (kind(random.below(3) as usize), quota(&mut random));
                model.kinds.insert(kind, quota);
                store.set_quota(kind, quota).unwrap();
            }
            17 => drop(store.expire().unwrap()),
            18 => drop(store.checkpoint().unwrap()),
            19 => match random.below(6) {
                0 => drop(store.snapshot().unwrap()),
                1 => {
                    store.close().unwrap();
                    model.limits = random.below(3) as usize;
                    store = open(&rig, &model);
                }
                2 => {
                    rig.crash(store);
                    model.limits = random.below(3) as usize;
                    store = open(&rig, &model);
                }
                _ => {}
            },
            _ => rig.advance(random.below(10)),
        }
        check(&store, &model, rig.now(), &mut scales, &what);
    }
    assert!(
        taken > 20 && refused[0] > 3 && refused[1] > 3,
        "seed {seed}: {taken} {refused:?}"
    );
}

#[test]
fn the_store_refuses_what_a_map_with_quotas_refuses() {
    let seeds = std::env::var("EVENKEEL_QUOTA_SEEDS").map_or(12, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        run(seed, 500);
    }
}
