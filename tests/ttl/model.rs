//! Operations at random, against a map with deadlines: what is there, what a limit
//! refuses, what survives.

use std::collections::BTreeMap;
use std::time::Duration;

use evenkeel::testing::{Loss, Random};
use evenkeel::{Error, Limits, Scope, SetOptions, Store, Version};

use crate::parts::{Rig, keys};

const KEYS_MAX: u64 = 12;

#[derive(Default)]
struct Model {
    /// By scope and key: the value and its deadline.
    keys: BTreeMap<(usize, String), (i64, Option<u64>)>,
    ttls: [Option<u64>; 2],
}

impl Model {
    fn get(&self, at: &(usize, String), now: u64) -> Option<(i64, Option<u64>)> {
        let lives = |(_, deadline): &&(i64, Option<u64>)| deadline.is_none_or(|d| d > now);
        self.keys.get(at).filter(lives).copied()
    }

    fn live(&self, scope: usize, now: u64) -> Vec<String> {
        let of_scope = self.keys.keys().filter(|(of, _)| *of == scope);
        of_scope
            .filter(|at| self.get(at, now).is_some())
            .map(|(_, key)| key.clone())
            .collect()
    }
}

fn scopes() -> [Scope; 2] {
    [Scope::workflow("w"), Scope::step("w", "s")]
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.scope_keys = KEYS_MAX;
    limits
}

fn run(seed: u64, steps: usize) {
    let mut random = Random::new(seed);
    let mut rig = Rig::new();
    let open = |rig: &Rig| rig.builder().limits(limits()).open("/store").unwrap();
    let mut store: Store = open(&rig);
    let mut model = Model::default();
    for step in 0..steps {
        let what = format!("seed {seed}, step {step}");
        let now = rig.now();
        let scope = random.below(2) as usize;
        let at = (scope, format!("k{:02}", random.below(20)));
        let handle = store.scope(scopes()[scope].clone());
        let old = model.get(&at, now);
        let micros = 1 + random.below(40);
        let fresh = |ttl: Option<u64>| ttl.map(|ttl| now + ttl);
        let mut wanted: Option<(i64, Option<u64>)> = None;
        let outcome = match random.below(16) {
            0..4 => {
                wanted = Some((1, Some(now + micros)));
                let ttl = SetOptions::new().ttl(Duration::from_micros(micros));
                handle.set_with(&at.1, 1, ttl)
            }
            4 => {
                wanted = Some((2, fresh(model.ttls[scope])));
                handle.set(&at.1, 2)
            }
            5 => {
                let (value, deadline) = old.unwrap_or((0, fresh(model.ttls[scope])));
                wanted = Some((value + 1, deadline));
                handle.increment(&at.1, 1).map(drop)
            }
            6 => {
                let (value, deadline) = old.unwrap_or((0, fresh(model.ttls[scope])));
                wanted = Some((value + 5, deadline));
                store.transact(|tx| {
                    let scope = tx.scope(scopes()[scope].clone());
                    scope
                        .update(&at.1, |n: Option<i64>| n.unwrap_or(0) + 5)
                        .map(drop)
                })
            }
            7 => match handle.compare_and_set(&at.1, Version::ZERO, 7) {
                Err(Error::Conflict { .. }) => {
                    assert!(old.is_some(), "{what}");
                    Ok(())
                }
                outcome => {
                    assert!(old.is_none(), "{what}");
                    wanted = Some((7, fresh(model.ttls[scope])));
                    outcome.map(drop)
                }
            },
            8 => {
                let ttl = random.below(2).eq(&0).then_some(micros);
                wanted = old.map(|(value, _)| (value, fresh(ttl)));
                let there = handle
                    .set_ttl(&at.1, ttl.map(Duration::from_micros))
                    .unwrap();
                assert_eq!(there, old.is_some(), "{what}");
                Ok(())
            }
            9 => {
                model.keys.remove(&at);
                handle.delete(&at.1)
            }
            10 if random.below(4) == 0 => {
                model.keys.retain(|(of, _), _| *of != scope);
                handle.clear()
            }
            11 if random.below(3) == 0 => {
                let ttl = random.below(3).ne(&0).then_some(micros);
                model.ttls[scope] = ttl;
                handle.set_default_ttl(ttl.map(Duration::from_micros))
            }
            12 => {
                let due = model.keys.len();
                model
                    .keys
                    .retain(|_, (_, deadline)| deadline.is_none_or(|d| d > now));
                let removed = store.expire().unwrap();
                // Those that later commits removed in passing are fewer.
                assert_eq!(removed as usize, due - model.keys.len(), "{what}");
                Ok(())
            }
            13 => store.checkpoint().map(drop),
            14 => {
                match random.below(8) {
                    0 => store.snapshot().map(drop).unwrap(),
                    1 => {
                        store.close().unwrap();
                        store = open(&rig);
                    }
                    2 => {
                        let disk = rig.disk.crash(Loss::Everything);
                        drop(store);
                        rig.disk = disk;
                        store = open(&rig);
                    }
                    _ => {}
                }
                Ok(())
            }
            _ => {
                rig.advance(random.below(12));
                Ok(())
            }
        };
        match (outcome, wanted) {
            (Ok(()), Some(wanted)) => {
                let live = model.live(scope, now).len() as u64;
                assert!(old.is_some() || live < KEYS_MAX, "{what}: over its limit");
                model.keys.insert(at, wanted);
            }
            (Ok(()), None) => {}
            (Err(Error::LimitExceeded { actual, .. }), Some(_)) => {
                let live = model.live(scope, now).len() as u64;
                let full = old.is_none() && live == KEYS_MAX && actual == live + 1;
                assert!(full, "{what}: refused for {actual} with {live}");
            }
            (Err(e), _) => panic!("{what}: {e}"),
        }
        let now = rig.now();
        for (number, scope) in scopes().iter().enumerate() {
            assert_eq!(keys(&store, scope), model.live(number, now), "{what}");
            for key in model.live(number, now) {
                let (value, deadline) = model.get(&(number, key.clone()), now).unwrap();
                let handle = store.scope(scope.clone());
                assert_eq!(
                    handle.get::<i64>(&key).unwrap(),
                    Some(value),
                    "{what} {key}"
                );
                assert_eq!(handle.expires_at(&key).unwrap(), deadline, "{what} {key}");
            }
        }
    }
}

#[test]
fn the_store_does_what_a_map_with_deadlines_does() {
    let seeds = std::env::var("EVENKEEL_TTL_SEEDS").map_or(12, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        run(seed, 400);
    }
}
