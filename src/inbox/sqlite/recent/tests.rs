#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::*;
use crate::inbox::sqlite::schema;

const WINDOW: Duration = Duration::from_secs(100);

/// The check beside a list of everything that is stored, which must say the same.
struct Bench {
    conn: Connection,
    recent: Recent,
    /// In arrival order.
    events: HashMap<EventId, Vec<(Seq, Timestamp)>>,
    last: Seq,
    unmoved: VecDeque<(Seq, EventId, Timestamp)>,
    unwritten: Vec<Arc<Sealed>>,
    written: i64,
    now: Timestamp,
    chance: u64,
}

fn id(n: u64) -> EventId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    id[8..].copy_from_slice(&n.to_be_bytes());
    EventId::from_bytes(id)
}

impl Bench {
    fn new(seed: u64) -> Self {
        let mut conn = Connection::open_in_memory().unwrap();
        schema::migrate(&mut conn).unwrap();
        let now = Timestamp::from_seconds(1_795_420_800);
        let recent = Recent::load(&conn, 0, now).unwrap();
        Self {
            conn,
            recent,
            events: HashMap::new(),
            last: 0,
            unmoved: VecDeque::new(),
            unwritten: Vec::new(),
            written: -1,
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
    fn restart(&mut self) {
        self.move_all();
        self.unwritten.clear();
        self.written = -1;
        self.recent = Recent::load(&self.conn, self.last, self.now.minus(WINDOW)).unwrap();
    }

    fn expected(&self, id: EventId, cutoff: Timestamp) -> Option<Seq> {
        self.events
            .get(&id)?
            .iter()
            .rfind(|(_, received)| *received > cutoff)
            .map(|(seq, _)| *seq)
    }

    fn check(&self, id: EventId) -> bool {
        let cutoff = self.now.minus(WINDOW);
        let found = self.recent.find_since(&self.conn, &id, cutoff).unwrap();
        assert_eq!(found, self.expected(id, cutoff), "{id} in the window");
        found.is_some()
    }

    fn check_ever(&self, id: EventId) {
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
    fn store(&mut self, ids: &[EventId], moves: bool) {
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
        let cutoff = self.now.minus(WINDOW);
        self.unwritten
            .extend(self.recent.seal(self.written, cutoff));
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
    fn write_runs(&mut self) {
        self.move_all();
        for run in self.unwritten.drain(..) {
            write_run(&self.conn, &run).unwrap();
            self.written = run.number();
        }
        let cutoff = self.now.minus(WINDOW);
        self.unwritten
            .extend(self.recent.seal(self.written, cutoff));
    }

    /// Removes the events up to `upto`, but some; word of it comes later, or not before a restart.
    fn sweep(&mut self, upto: Seq, word: bool) {
        self.move_all();
        self.conn
            .execute(
                "DELETE FROM events WHERE seq <= ?1 AND seq % 1777 <> 0",
                [upto],
            )
            .unwrap();
        let runs = forget_runs(&self.conn, upto).unwrap();
        if word {
            runs.into_iter().for_each(|run| self.recent.forget(run));
        }
        for stored in self.events.values_mut() {
            stored.retain(|(seq, _)| *seq > upto || seq % 1777 == 0);
        }
    }

    fn runs_on_disk(&self) -> i64 {
        self.conn
            .query_row("SELECT count(*) FROM id_runs", [], |row| row.get(0))
            .unwrap()
    }
}

/// Thousands of steps of every sort, restarts before a run is written included.
#[test]
fn it_says_what_a_list_of_everything_says() {
    for seed in 1..=3 {
        let mut bench = Bench::new(seed * 0x2545_F491_4F6C_DD1D);
        let mut newest = 0;
        let mut most_runs = 0;
        while newest < 9000 {
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
                    bench.sweep(upto, word);
                }
                14..24 => bench.write_runs(),
                3..14 => bench.now = bench.now.plus(Duration::from_secs(3)),
                _ => {}
            }
            for _ in 0..5 {
                let n = bench.chance(newest + 100);
                bench.check(id(n));
                bench.check_ever(id(n));
            }
            let filters = bench.recent.runs.iter().filter(|run| run.filter.is_some());
            assert!(filters.count() <= FILTERED_RUNS);
            most_runs = most_runs.max(bench.recent.runs.len());
            assert!(bench.runs_on_disk() <= bench.recent.runs.len() as i64 + 1);
        }
        assert!(most_runs > FILTERED_RUNS, "{most_runs} runs are too few");
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
            bench.write_runs();
        }
        assert!(!bench.check(alike(9)));
        assert!(bench.check(alike(1)), "now in a run on disk");
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

/// The claim of the module's documentation, for runs of their full length.
#[test]
fn it_stays_within_its_memory() {
    let entry = size_of::<(u64, Seq)>() + 1;
    // A table of a power of two, at most 7/8 full.
    let map = |entries: usize| (entries * 8 / 7).next_power_of_two() * entry;
    assert_eq!(map(FULL_RUN), map(FULL_RUN + FULL_RUN / 2 + 4096));
    let filter = FULL_RUN * 16 / 8;
    let writing = FULL_RUN * size_of::<(u64, u32)>() + filter;
    let all = map(FULL_RUN) + writing + FULL_FILTERED_RUNS * filter;
    assert!(all <= 26 << 20, "{all} bytes");
    assert_eq!(map(FULL_RUN), (17 << 20) / 4);
    assert_eq!(writing, (9 << 20) / 4);
    // 24 days of a hundred callbacks a second, as far as their runs are only remembered to be on disk.
    assert!(1600 * size_of::<Run>() < 256 << 10);
}

#[test]
fn the_filter_lets_few_pass() {
    let mut filter = Filter::new();
    (0..RUN as u64).for_each(|n| filter.add(id(n).fingerprint()));
    assert!((0..RUN as u64).all(|n| filter.may_hold(id(n).fingerprint())));
    let strangers = (1 << 20)..(1 << 20) + 20_000;
    let wrong = strangers.filter(|n| filter.may_hold(id(*n).fingerprint()));
    assert!(wrong.count() < 20_000 / 200);
}
