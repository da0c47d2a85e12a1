//! Owns setting quotas and telling what scopes hold, as a user says and asks it. What a
//! quota is, and that it holds, is the engine's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::engine::quota::{Quota, QuotaChange, QuotaOf};
use crate::engine::usage::Holding;
use crate::error::{Corruption, Error, Result};
use crate::ids::Lsn;
use crate::scope::{Scope, ScopeKind};
use crate::state::handle::ScopeHandle;
use crate::state::settings;
use crate::state::store::{Shared, Store};

/// What the key of a scope's quota begins with, among the settings.
pub(super) const OF_SCOPE: &str = "quota/";
/// What the key of a kind's quota begins with, among the settings.
pub(super) const OF_KIND: &str = "kind quota/";

/// A quota as it is written.
#[derive(Serialize, Deserialize)]
struct Setting {
    /// The encoded scope; of a kind, the byte that those of its scopes begin with.
    of: Vec<u8>,
    #[serde(default)]
    keys: Option<u64>,
    #[serde(default)]
    bytes: Option<u64>,
}

impl Setting {
    fn new(of: &[u8], quota: Quota) -> Option<Self> {
        (!quota.is_none()).then(|| Self {
            of: of.to_vec(),
            keys: quota.keys,
            bytes: quota.bytes,
        })
    }

    fn quota(&self) -> Quota {
        let mut quota = Quota::new();
        quota.keys = self.keys;
        quota.bytes = self.bytes;
        quota
    }
}

impl Shared {
    /// Takes up the quota of a scope, when a store is opened.
    pub(super) fn load_scope_quota(&self, cell: &[u8]) -> Result<()> {
        let setting: Setting = settings::decode(cell)?;
        self.engine.load_quota(&QuotaChange {
            of: QuotaOf::Scope(self.engine.slot(&setting.of)),
            quota: setting.quota(),
        });
        Ok(())
    }

    /// Takes up the quota of a kind, when a store is opened.
    pub(super) fn load_kind_quota(&self, cell: &[u8]) -> Result<()> {
        let setting: Setting = settings::decode(cell)?;
        let unknown = || Corruption::new("the settings", "a quota is of no kind of scope");
        let kind = ScopeKind::of(&setting.of).ok_or_else(unknown)?;
        self.engine.load_quota(&QuotaChange {
            of: QuotaOf::Kind(kind),
            quota: setting.quota(),
        });
        Ok(())
    }
}

/// What one scope holds, and what it may hold. Made by [`ScopeHandle::usage`] and
/// [`Store::usage`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScopeUsage {
    /// The scope.
    pub scope: Scope,
    /// Its keys. What has expired is not among them.
    pub keys: u64,
    /// The bytes of its keys and stored values.
    pub bytes: u64,
    /// The most keys it may have, by its own quota, that of its kind, or the store's
    /// limits.
    pub keys_max: u64,
    /// The most bytes it may have, by the same.
    pub bytes_max: u64,
    /// True where it holds more than it may: see [`Quota`].
    pub quarantined: bool,
}

impl ScopeUsage {
    fn new(scope: Scope, holding: &Holding) -> Self {
        let (keys, bytes) = holding.count.amounts();
        let (keys_max, bytes_max) = (holding.allowed.keys.0, holding.allowed.bytes.0);
        Self {
            scope,
            keys,
            bytes,
            keys_max,
            bytes_max,
            quarantined: keys > keys_max || bytes > bytes_max,
        }
    }
}

/// What the scopes of one kind hold together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KindUsage {
    /// How many scopes of the kind have keys.
    pub scopes: u64,
    /// The keys of all of them.
    pub keys: u64,
    /// The bytes of their keys and stored values.
    pub bytes: u64,
    /// How many of them hold more than they may.
    pub quarantined: u64,
    /// What was set by [`Store::set_quota`] for each scope of the kind.
    pub quota: Quota,
}

impl KindUsage {
    fn add(&mut self, usage: &ScopeUsage) {
        self.scopes += u64::from(usage.keys > 0);
        self.keys += usage.keys;
        self.bytes += usage.bytes;
        self.quarantined += u64::from(usage.quarantined);
    }
}

/// What all scopes hold at one moment. Made by [`Store::usage`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// The LSN of the state that was counted.
    pub lsn: Lsn,
    /// The keys of all scopes.
    pub keys: u64,
    /// The bytes of all their keys and stored values.
    pub bytes: u64,
    /// Each scope that has keys or a quota of its own, in order.
    pub scopes: Vec<ScopeUsage>,
    /// Each kind of which there is such a scope, or that has a quota.
    pub kinds: BTreeMap<ScopeKind, KindUsage>,
}

impl Usage {
    /// The scopes that hold more than they may.
    pub fn quarantined(&self) -> impl Iterator<Item = &ScopeUsage> {
        self.scopes.iter().filter(|scope| scope.quarantined)
    }
}

/// What a scope may hold: see [`Quota`].
impl ScopeHandle {
    /// Sets what this scope may hold, or, by `None` or a quota that says nothing, leaves
    /// that to the quota of its kind and to [`Limits`](crate::Limits). It may be lower
    /// than what the scope holds: nothing is removed, and the scope is quarantined until
    /// it holds no more.
    ///
    /// It is one commit: whoever commits later is judged by it, whoever committed earlier
    /// was not. It is not a key of the scope: [`clear`](Self::clear) leaves it, and it
    /// stays in memory for as long as it is set. Durable as any other commit of this
    /// handle.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::Closed`], [`Error::Poisoned`].
    ///
    /// ```
    /// use evenkeel::{Error, Quota, Scope, Store};
    /// let inbox = Store::in_memory().scope(Scope::worker("w-1"));
    /// inbox.set("a", 1)?;
    /// inbox.set("b", 1)?;
    /// inbox.set_quota(Quota::new().keys(1))?;
    /// assert!(inbox.usage()?.quarantined);
    /// assert!(matches!(inbox.set("c", 1), Err(Error::Quarantined { held: 2, .. })));
    /// inbox.set("a", 2)?; // It becomes no larger by that.
    /// inbox.delete("b")?;
    /// assert!(!inbox.usage()?.quarantined);
    /// inbox.set_quota(None)?;
    /// inbox.set("c", 1)?;
    /// # Ok::<(), Error>(())
    /// ```
    pub fn set_quota(&self, quota: impl Into<Option<Quota>>) -> Result<()> {
        let slot = self.enter()?;
        if matches!(*self.scope, Scope::System(_)) {
            return Err(Error::Invalid {
                what: "scope",
                reason: "what the store keeps for itself has no quota".into(),
            });
        }
        let quota = quota.into().unwrap_or_default();
        let begun = self.shared.begin(self.durability);
        let lsn = self.shared.change_setting(
            settings::key(OF_SCOPE, &slot.prefix),
            Setting::new(&slot.prefix, quota).as_ref(),
            Some(QuotaChange {
                of: QuotaOf::Scope(slot.clone()),
                quota,
            }),
        )?;
        self.shared.acknowledge(lsn, self.durability, begun)
    }

    /// What [`set_quota`](Self::set_quota) set for this scope; what is in force is told
    /// by [`usage`](Self::usage).
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Poisoned`].
    pub fn quota(&self) -> Result<Quota> {
        Ok(self.enter()?.read().quota)
    }

    /// What this scope holds now, exactly, and what it may hold. Costs what
    /// [`len`](Self::len) does: two blocks of the image, those that hold something
    /// expired, and a look-up for each key of the scope that is not in the image yet.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Poisoned`], [`Error::Corrupt`].
    pub fn usage(&self) -> Result<ScopeUsage> {
        let slot = self.enter()?;
        let holding = self.shared.engine.holding(slot)?;
        Ok(ScopeUsage::new(Scope::clone(&self.scope), &holding))
    }
}

/// What scopes may hold, and what they do: see [`Quota`].
impl Store {
    /// Sets what each scope of a kind may hold that has no quota of its own, or, by `None`
    /// or a quota that says nothing, leaves that to [`Limits`](crate::Limits). It counts
    /// for each of them alone, not for all together, whose sum [`usage`](Self::usage)
    /// tells. Otherwise as [`ScopeHandle::set_quota`].
    ///
    /// # Errors
    /// As there.
    ///
    /// ```
    /// use evenkeel::{Error, Quota, Scope, ScopeKind, Store};
    /// let store = Store::in_memory();
    /// store.set_quota(ScopeKind::Job, Quota::new().keys(1))?;
    /// let large = store.scope(Scope::job("large"));
    /// large.set_quota(Quota::new().keys(100))?;
    /// for job in [store.scope(Scope::job("1")), store.scope(Scope::job("2")), large] {
    ///     job.set("state", "running")?;
    /// }
    /// let second = store.scope(Scope::job("1")).set("progress", 0.5);
    /// assert!(matches!(second, Err(Error::LimitExceeded { max: 1, .. })));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn set_quota(&self, kind: ScopeKind, quota: impl Into<Option<Quota>>) -> Result<()> {
        let shared = self.shared();
        shared.enter()?;
        let quota = quota.into().unwrap_or_default();
        let begun = shared.begin(self.durability());
        let tag = [kind.tag()];
        let lsn = shared.change_setting(
            settings::key(OF_KIND, &tag),
            Setting::new(&tag, quota).as_ref(),
            Some(QuotaChange {
                of: QuotaOf::Kind(kind),
                quota,
            }),
        )?;
        shared.acknowledge(lsn, self.durability(), begun)
    }

    /// What [`set_quota`](Self::set_quota) set for the scopes of a kind.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Poisoned`].
    pub fn quota(&self, kind: ScopeKind) -> Result<Quota> {
        self.shared().enter()?;
        Ok(self.shared().engine.kind_quota(kind))
    }

    /// What each scope holds, what it may hold, and what that comes to for each kind and
    /// for the store: exact figures of one moment. What the store keeps for itself is not
    /// counted.
    ///
    /// It takes as much memory as [`scopes`](Self::scopes) does, and as much time as
    /// [`ScopeHandle::len`] of each of them: something for an operator to look at, not for
    /// each request. Writers go on meanwhile.
    ///
    /// # Errors
    /// As [`scopes`](Self::scopes).
    ///
    /// ```
    /// use evenkeel::{Quota, Scope, ScopeKind, Store};
    /// let store = Store::in_memory();
    /// store.set_quota(ScopeKind::Job, Quota::new().keys(10))?;
    /// store.scope(Scope::job("1")).set("state", "done")?;
    /// store.scope(Scope::job("2")).set("state", "done")?;
    /// let usage = store.usage()?;
    /// assert_eq!((usage.scopes.len(), usage.keys), (2, 2));
    /// assert_eq!(usage.kinds[&ScopeKind::Job].keys, 2);
    /// assert_eq!(usage.scopes[0].keys_max, 10);
    /// assert_eq!(usage.quarantined().count(), 0);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    pub fn usage(&self) -> Result<Usage> {
        let (lsn, quotas, holdings) = loop {
            self.shared().enter()?;
            match self.shared().engine.holdings() {
                // It had to make room; the next view begins at the newer image.
                Err(Error::ViewExpired) => {}
                outcome => break outcome?,
            }
        };
        let mut usage = Usage {
            lsn,
            keys: 0,
            bytes: 0,
            scopes: Vec::with_capacity(holdings.len()),
            kinds: BTreeMap::new(),
        };
        for kind in ScopeKind::ALL {
            let quota = quotas.get(kind);
            if !quota.is_none() {
                usage.kinds.entry(kind).or_default().quota = quota;
            }
        }
        for (slot, holding) in holdings {
            let (Some((scope, _)), Some(kind)) =
                (Scope::decode(&slot.prefix), ScopeKind::of(&slot.prefix))
            else {
                continue;
            };
            let scope = ScopeUsage::new(scope, &holding);
            usage.keys += scope.keys;
            usage.bytes += scope.bytes;
            usage.kinds.entry(kind).or_default().add(&scope);
            usage.scopes.push(scope);
        }
        Ok(usage)
    }
}
