#![allow(clippy::unwrap_used)]

use std::time::Duration;

use rusqlite::params;

use super::*;
use crate::inbox::sqlite::schema;

const WINDOW: Duration = Duration::from_secs(100);

/// The check beside a list of everything that is stored, which must say the same.
pub(super) struct Bench {
    pub(super) conn: Connection,
    pub(super) recent: Recent,
    pub(super) upkeep: Upkeep,
    /// In arrival order.
    events: HashMap<EventId, Vec<(Seq, Timestamp)>>,
    pub(super) last: Seq,
    unmoved: VecDeque<(Seq, EventId, Timestamp)>,
    unwritten: Vec<Arc<Sealed>>,
    /// Said by the writer, and not taken in yet.
    changes: VecDeque<Change>,
    now: Timestamp,
    chance: u64,
}

pub(super) fn id(n: u64) -> EventId {
    let mut id = [0; 16];
    let mixed = (n ^ n >> 31).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ mixed >> 29).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    id[..8].copy_from_slice(&(mixed ^ mixed >> 32).to_be_bytes());
    id[8..].copy_from_slice(&n.to_be_bytes());
    EventId::from_bytes(id)
}

impl Bench {
    pub(super) fn new(seed: u64) -> Self {
        let mut conn = Connection::open_in_memory().unwrap();
        schema::migrate(&mut conn).unwrap();
        let now = Timestamp::from_seconds(1_795_420_800);
        let recent = Recent::load(&conn, 0, now).unwrap();
        let upkeep = Upkeep::load(&conn).unwrap();
        Self {
            conn,
            recent,
            upkeep,
            events: HashMap::new(),
            last: 0,
            unmoved: VecDeque::new(),
            unwritten: Vec::new(),
            changes: VecDeque::new(),
            now,
            chance: seed,
        }
    }

    fn chance(&mut self, below: u64) -> u64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        (self.chance >> 16) % below
    }

    /// As after a crash: the journal's events are moved, runs that were not written are not.
    pub(super) fn restart(&mut self) {
        self.move_all();
        self.unwritten.clear();
        self.changes.clear();
        self.recent = Recent::load(&self.conn, self.last, self.now.minus(WINDOW)).unwrap();
        self.upkeep = Upkeep::load(&self.conn).unwrap();
    }

    fn expected(&self, id: EventId, cutoff: Timestamp) -> Option<Seq> {
        self.events
            .get(&id)?
            .iter()
            .rfind(|(_, received)| *received > cutoff)
            .map(|(seq, _)| *seq)
    }

    pub(super) fn check(&self, id: EventId) -> bool {
        let cutoff = self.now.minus(WINDOW);
        let found = self.recent.find_within(&self.conn, &id, self.now, WINDOW);
        let found = found.unwrap();
        assert_eq!(found, self.expected(id, cutoff), "{id} in the window");
        found.is_some()
    }

    pub(super) fn check_ever(&self, id: EventId) {
        let expected = self.expected(id, Timestamp::from_millis(i64::MIN));
        let found = self.recent.find_ever(&self.conn, &id).unwrap();
        assert_eq!(found, expected, "{id} ever");
        let mut found = self.recent.find_in_memory(&self.conn, &id).unwrap();
        if found.is_none() {
            found = find_on_disk(&self.conn, &id).unwrap();
        }
        assert_eq!(found, expected, "{id} ever, in two steps");
    }

    /// Stores those that are no duplicates, and moves them now or later.
    pub(super) fn store(&mut self, ids: &[EventId], moves: bool) {
        let mut fresh: Vec<EventId> = Vec::new();
        for id in ids {
            if !fresh.contains(id) && !self.check(*id) {
                fresh.push(*id);
            }
        }
        for id in fresh {
            self.last += 1;
            self.recent.add(self.last, &id, self.now);
            self.events
                .entry(id)
                .or_default()
                .push((self.last, self.now));
            self.unmoved.push_back((self.last, id, self.now));
        }
        if moves {
            self.move_all();
        }
        self.unwritten.extend(self.recent.seal());
    }

    fn move_all(&mut self) {
        self.conn.execute_batch("BEGIN IMMEDIATE").unwrap();
        for (seq, id, received) in self.unmoved.drain(..) {
            self.conn
                .prepare_cached("INSERT INTO events VALUES (?1, ?2, 'css', 1, ?3, x'')")
                .unwrap()
                .execute(params![seq, received.millis(), id.as_bytes()])
                .unwrap();
        }
        self.conn.execute_batch("COMMIT").unwrap();
        self.recent.moved(self.last);
    }

    /// Writes the run that was sealed; moves what is in it before, as the writer does.
    pub(super) fn write_runs(&mut self) {
        self.move_all();
        for run in self.unwritten.drain(..) {
            let run = write_run(&self.conn, &run).unwrap();
            self.changes.push_back(Change::Written(run));
            self.upkeep.look();
        }
    }

    /// Takes in what the writer has done, and lets it know.
    pub(super) fn take_in(&mut self) {
        let cutoff = self.now.minus(WINDOW);
        for change in self.changes.drain(..) {
            let merged = matches!(change, Change::Merged(..));
            self.recent.take_in(change, cutoff);
            if merged {
                self.upkeep.swapped();
            }
        }
        self.unwritten.extend(self.recent.seal());
    }

    /// One step of the writer in its own time, unless it has nothing to do; one that fails is undone.
    pub(super) fn keep_house(&mut self, fails: bool) -> bool {
        if !self.upkeep.is_due() {
            return false;
        }
        let whole = self.conn.unchecked_transaction().unwrap();
        let change = self.upkeep.step(&whole).unwrap();
        if fails {
            drop(whole);
            self.upkeep.failed();
        } else {
            whole.commit().unwrap();
            self.upkeep.committed();
            self.changes.extend(change);
        }
        true
    }

    /// Does all that there is to do.
    pub(super) fn come_to_rest(&mut self) {
        self.write_runs();
        self.take_in();
        self.write_runs();
        self.take_in();
        while self.keep_house(false) {
            self.take_in();
        }
    }

    /// Removes the events up to `upto`, but each so-manieth; word of it comes later, or not before a restart.
    pub(super) fn sweep(&mut self, upto: Seq, but: Seq, word: bool) {
        self.move_all();
        self.conn
            .execute(
                "DELETE FROM events WHERE seq <= ?1 AND seq % ?2 <> 0",
                [upto, but],
            )
            .unwrap();
        let runs = forget_runs(&self.conn, upto).unwrap();
        if word {
            self.changes.push_back(Change::Forgotten(runs.clone()));
            self.upkeep.remove(runs);
        }
        for stored in self.events.values_mut() {
            stored.retain(|(seq, _)| *seq > upto || seq % but == 0);
        }
    }

    pub(super) fn pass_the_window(&mut self) {
        self.now = self.now.plus(2 * WINDOW);
    }

    pub(super) fn count(&self, sql: &str) -> i64 {
        self.conn.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    fn runs_on_disk(&self) -> i64 {
        self.count("SELECT count(*) FROM id_runs")
    }

    pub(super) fn no_parts_are_left_over(&self) {
        let merged = self.count("SELECT count(*) FROM id_runs WHERE run < 0");
        let others = self.runs_on_disk() - merged;
        let parts_there = self.count("SELECT count(*) FROM id_parts");
        assert_eq!(parts_there, merged * parts(-1) + others * parts(0));
    }
}

/// How many a run has.
pub(super) fn parts(run: i64) -> i64 {
    let parts = disk::parts(run);
    parts.end - parts.start
}

/// Thousands of steps of every sort, restarts before a run is written included.
#[test]
fn it_says_what_a_list_of_everything_says() {
    for seed in 1..=3 {
        let mut bench = Bench::new(seed * 0x2545_F491_4F6C_DD1D);
        let mut newest = 0;
        let mut unfiltered = 0;
        let mut merged = 0;
        while newest < 20_000 {
            let size = 1 + bench.chance(120);
            let ids: Vec<_> = (0..size)
                .map(|_| match bench.chance(3) {
                    0 if newest > 0 => id(bench.chance(newest)),
                    _ => {
                        newest += 1;
                        id(newest)
                    }
                })
                .collect();
            let moves = bench.chance(3) == 0;
            bench.store(&ids, moves);
            match bench.chance(40) {
                0 | 1 => bench.restart(),
                2 => {
                    let upto = bench.last - 3000 + bench.chance(2000) as Seq;
                    let word = bench.chance(3) != 0;
                    bench.sweep(upto, 1777, word);
                }
                14..26 => bench.write_runs(),
                26..28 => {
                    bench.keep_house(true);
                }
                3..14 => bench.now = bench.now.plus(Duration::from_secs(3)),
                _ => {}
            }
            if bench.chance(2) == 0 {
                bench.keep_house(false);
            }
            if bench.chance(3) == 0 {
                bench.take_in();
            }
            for _ in 0..5 {
                let n = bench.chance(newest + 100);
                bench.check(id(n));
                bench.check_ever(id(n));
            }
            let runs = &bench.recent.runs;
            let filters = runs.iter().flat_map(|run| &run.filter);
            assert!(filters.map(Filter::size).sum::<usize>() <= FILTERS);
            unfiltered += runs.iter().filter(|run| run.filter.is_none()).count();
            merged += runs.iter().filter(|run| run.number < 0).count();
        }
        assert!(unfiltered > 0 && merged > 0, "{unfiltered}, {merged}");
        bench.come_to_rest();
        let small = bench.recent.runs.iter().filter(|run| run.number >= 0);
        assert!(small.count() < MERGED);
        bench.restart();
        bench.come_to_rest();
        bench.no_parts_are_left_over();
        (0..newest + 100).for_each(|n| bench.check_ever(id(n)));
    }
}

#[test]
fn a_run_that_was_not_written_is_known_all_the_same() {
    let mut bench = Bench::new(1);
    let ids: Vec<_> = (0..RUN as u64).map(id).collect();
    let known = |bench: &Bench| {
        for n in (0..RUN as u64 + 100).step_by(37) {
            assert_eq!(bench.check(id(n)), n < RUN as u64);
        }
    };
    bench.store(&ids, false);
    assert_eq!(bench.unwritten.len(), 1);
    known(&bench);
    bench.move_all();
    known(&bench);
    assert_eq!(bench.runs_on_disk(), 0);
    bench.restart();
    assert_eq!(bench.runs_on_disk(), 1, "a restart writes it");
    assert!(bench.recent.newest.is_empty() && bench.recent.writing.is_none());
    known(&bench);
}

#[test]
fn what_only_looks_the_same_is_no_duplicate() {
    let alike = |n: u8| {
        let mut bytes = [7; 16];
        bytes[15] = n;
        EventId::from_bytes(bytes)
    };
    let mut bench = Bench::new(1);
    bench.store(&[alike(1)], true);
    assert!(!bench.check(alike(2)));
    for round in 0..3 {
        let ids: Vec<_> = (0..RUN as u64 * 3).map(|n| id(round << 32 | n)).collect();
        for ids in ids.chunks(64) {
            bench.store(ids, true);
            bench.come_to_rest();
        }
        assert!(!bench.check(alike(9)));
        assert!(bench.check(alike(1)), "now in a run on disk");
        let merged = bench.recent.runs.iter().any(|run| run.number < 0);
        assert_eq!(merged, round > 0);
        bench.restart();
        assert!(bench.check(alike(1)));
    }
    bench.store(&[alike(2)], true);
    assert!(bench.check(alike(1)) && bench.check(alike(2)));
}

/// An event that joins late has an early time, and must not hide that its run reaches into the window.
#[test]
fn times_need_no_order() {
    let mut bench = Bench::new(1);
    for n in 0..RUN as u64 * 3 {
        let late = n % 5 == 0;
        let now = bench.now;
        if late {
            bench.now = now.minus(10 * WINDOW);
        }
        bench.store(&[id(n)], true);
        bench.now = now;
        assert_eq!(bench.check(id(n)), !late);
        bench.check_ever(id(n));
    }
    bench.restart();
    for n in 0..RUN as u64 * 3 {
        assert_eq!(bench.check(id(n)), n % 5 != 0);
        bench.check_ever(id(n));
    }
}

/// The claim of the module's documentation, for runs of their full length: what ten million ids take where it is most.
#[test]
fn it_stays_within_its_memory() {
    const IDS: usize = 10_000_000;
    // A table of a power of two, at most 7/8 full; it may hold a batch too many.
    let map = Ids::with_capacity_and_hasher(FULL_RUN, BuildHasherDefault::new());
    assert_eq!(map.capacity(), FULL_RUN + 4096);
    let map = (FULL_RUN * 8 / 7).next_power_of_two() * (size_of::<(u64, Seq)>() + 1);
    let group = FULL_RUN / disk::GROUPS as usize;
    let mut ids: Vec<_> = (0..group as u64).map(|n| id(n).fingerprint()).collect();
    ids.sort_unstable();
    let filter = |groups: usize| {
        let mut filter = Filter::new();
        for _ in 0..groups {
            assert!(filter.add(ids.iter().copied()));
        }
        filter.size()
    };
    let (one, merged) = (filter(2), filter(2 * FULL_MERGED));
    // Until a merge is done as many runs again may have come; of the oldest run but an id is in the window.
    let filters = |small: usize| {
        let large = (IDS - small * FULL_RUN).div_ceil(FULL_MERGED * FULL_RUN);
        small * one + large * merged
    };
    let filters = (0..=2 * FULL_MERGED).map(filters).max().unwrap();
    assert!(filters <= FULL_FILTERS, "{filters} bytes of filters");
    // To sort a group, and to make its filter.
    let cells = merged / (2 * FULL_MERGED);
    let writer = group * 9 / 8 * size_of::<(u64, u32)>() + cells * (8 + 1 + 1 + 2) + group * 9;
    assert!(writer < 11 << 20 >> 3, "{writer} bytes of the writer");
    let all = 2 * map + merged + FULL_FILTERS;
    assert!(all <= 16 << 20, "{all} bytes");
    // A year of a hundred callbacks a second, as far as its runs are only remembered to be on disk.
    assert!(4000 * size_of::<Run>() < 512 << 10);
}
