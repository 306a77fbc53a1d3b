#![allow(clippy::unwrap_used)]

use super::*;

fn fingerprint(n: u64) -> u64 {
    let n = (n ^ n >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let n = (n ^ n >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    n ^ n >> 31
}

/// A filter of so many ids from `from`, in groups.
fn filter(from: u64, ids: u64, groups: u64) -> Filter {
    let mut all: Vec<_> = (from..from + ids).map(fingerprint).collect();
    all.sort_unstable();
    let mut filter = Filter::new();
    for group in 0..groups {
        let own = all.iter().copied();
        assert!(filter.add(own.filter(|id| ((id >> 32) * groups) >> 32 == group)));
    }
    filter
}

#[test]
fn it_holds_what_was_added_and_little_else() {
    for (ids, groups) in [(512, 2), (5_000, 1), (100_000, 4)] {
        let filter = filter(0, ids, groups);
        let filter = Filter::read(filter.stored().to_vec()).unwrap();
        assert!((0..ids).all(|n| filter.may_hold(fingerprint(n))));
        let strangers = (1 << 40)..(1 << 40) + 100_000;
        let wrong = strangers.filter(|n| filter.may_hold(fingerprint(*n)));
        let wrong = wrong.count();
        assert!((300..480).contains(&wrong), "{wrong} of 100,000");
    }
}

#[test]
fn few_are_no_special_case_and_the_same_one_twice_is_one() {
    for ids in 0..40 {
        let filter = filter(7, ids, 2);
        assert!((7..7 + ids).all(|n| filter.may_hold(fingerprint(n))));
    }
    let mut twice = Filter::new();
    assert!(twice.add([3, 3, 5, 5, 5].into_iter()));
    assert!(twice.may_hold(3) && twice.may_hold(5));
}

/// What was stored by an earlier build must be read the same way: if this fails, `FORMAT` has to change.
#[test]
fn its_form_is_frozen() {
    let filter = filter(0, 1000, 2);
    assert_eq!(crc32fast::hash(filter.stored()), 4_138_051_298);
    let mut stored = filter.stored().to_vec();
    stored[0] += 1;
    assert!(Filter::read(stored.clone()).is_none());
    stored[0] -= 1;
    stored.pop();
    assert!(Filter::read(stored).is_none());
    assert!(Filter::read(Vec::new()).is_none());
}

/// A seed that fails is common; that all of them do must not be.
#[test]
fn few_seeds_have_to_be_tried() {
    for ids in (0..3000).step_by(97).chain([13_000, 26_624, 27_300]) {
        let all = (0..ids as u64).map(fingerprint);
        let made = |seed: &u64| Group::new(ids, *seed, 0).fill(all.clone()).is_some();
        let made = (1..=20).filter(made).count();
        let enough = if ids < 10_000 { 2 } else { 8 };
        assert!(made >= enough, "{ids} ids: with {made} seeds of 20");
    }
}
