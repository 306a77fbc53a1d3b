//! A shared limit for the bytes of requests in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many bytes may be in flight at once.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Account>);

#[derive(Debug)]
struct Account {
    limit: u64,
    used: AtomicU64,
    /// Bytes that count here count there too.
    parent: Option<Budget>,
}

/// Bytes reserved from a [`Budget`]. Dropping it releases them.
#[derive(Debug)]
pub(crate) struct Charge {
    account: Arc<Account>,
    bytes: u64,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Self {
        Self::within(limit, None)
    }

    /// A budget within this one: its bytes count in both, and it has a limit of its own.
    #[must_use]
    pub(crate) fn sub_budget(&self, limit: u64) -> Self {
        Self::within(limit, Some(self.clone()))
    }

    fn within(limit: u64, parent: Option<Self>) -> Self {
        Self(Arc::new(Account {
            limit,
            used: AtomicU64::new(0),
            parent,
        }))
    }

    /// Reserves bytes; none if that would exceed a limit.
    pub(crate) fn charge(&self, bytes: u64) -> Option<Charge> {
        let mut charge = Charge {
            account: self.0.clone(),
            bytes: 0,
        };
        charge.grow(bytes).then_some(charge)
    }
}

impl Charge {
    /// Reserves more bytes. `false`: that would exceed a limit, and nothing was reserved.
    #[must_use]
    pub(crate) fn grow(&mut self, bytes: u64) -> bool {
        let reserved = self.account.reserve(bytes);
        if reserved {
            self.bytes += bytes;
        }
        reserved
    }
}

impl Account {
    fn reserve(&self, bytes: u64) -> bool {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        let fits = before + bytes <= self.limit
            && self
                .parent
                .as_ref()
                .is_none_or(|parent| parent.0.reserve(bytes));
        if !fits {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }

    fn release(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(parent) = &self.parent {
            parent.0.release(bytes);
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.release(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_is_given_back() {
        let budget = Budget::new(10);
        let mut first = budget.charge(6).unwrap();
        assert!(budget.charge(5).is_none());
        assert!(first.grow(4));
        assert!(!first.grow(1));
        drop(first);
        assert!(budget.charge(10).is_some());
    }

    #[test]
    fn a_part_is_taken_from_the_whole() {
        let budget = Budget::new(10);
        let child = budget.sub_budget(4);
        assert!(child.charge(5).is_none());
        let first = child.charge(3).unwrap();
        assert!(budget.charge(8).is_none());
        let second = budget.charge(7).unwrap();
        assert!(child.charge(1).is_none());
        drop(first);
        assert!(budget.charge(4).is_none());
        assert!(budget.charge(3).is_some());
        drop(second);
        assert!(child.charge(4).is_some());
    }
}
