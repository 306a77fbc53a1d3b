//! A shared number of bytes that what is in flight may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many bytes may be in flight at once.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Account>);

#[derive(Debug)]
struct Account {
    limit: u64,
    taken: AtomicU64,
}

/// A share of a [`Budget`], given back when dropped.
#[derive(Debug)]
pub struct Charge {
    account: Arc<Account>,
    bytes: u64,
}

impl Budget {
    /// A budget of this many bytes.
    pub fn new(limit: u64) -> Self {
        Self(Arc::new(Account {
            limit,
            taken: AtomicU64::new(0),
        }))
    }

    /// Takes a share; none if it is not there.
    pub fn charge(&self, bytes: u64) -> Option<Charge> {
        let mut charge = Charge {
            account: self.0.clone(),
            bytes: 0,
        };
        charge.grow(bytes).then_some(charge)
    }
}

impl Charge {
    /// Takes more; `false`, and nothing taken, if it is not there.
    #[must_use]
    pub fn grow(&mut self, bytes: u64) -> bool {
        let before = self.account.taken.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > self.account.limit {
            self.account.taken.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.bytes += bytes;
        true
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.taken.fetch_sub(self.bytes, Ordering::Relaxed);
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
}
