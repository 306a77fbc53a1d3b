//! Which events retention examines next.
//!
//! Events are numbered as they arrive, so old events come first. But if the clock was ahead for a
//! while, some old events lie behind others that look young. A pass starts at the front, where the
//! last one met young events, and continues while it finds old ones. Then it examines some events
//! behind the front, the next pass some more, and in the end all of them. Every tenth pass starts at
//! the lowest event, for those that earlier passes left because they were owed or looked young.

use crate::event::Seq;

/// Rounds of a pass behind the front.
const ROUNDS_BEHIND: u32 = 8;
/// One pass of this many starts at the lowest event.
const PASSES_PER_FULL: u32 = 10;

/// How far retention has come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sweep {
    phase: SweepPhase,
    /// All events up to here were examined.
    front: Seq,
    /// Behind the front, events up to here were examined.
    behind: Seq,
    /// Rounds behind the front that are left in this pass.
    rounds_left: u32,
    passes: u32,
    /// The highest event that was old. All lower ones are old, too, whatever their times say.
    old: Seq,
}

#[derive(Debug, Clone, Copy)]
enum SweepPhase {
    /// Events before the front that earlier passes left, from this one on.
    Leftovers(Seq),
    Front,
    Behind,
}

/// Which events a round examines.
#[derive(Debug, Clone, Copy)]
pub(super) struct Round {
    /// It begins after this event.
    pub(super) from: Seq,
    /// It ends with this event.
    pub(super) upto: Seq,
    /// An event before this one is old if its time lies in the far future.
    pub(super) old: Seq,
}

/// What a round has found.
#[derive(Debug, Clone, Copy)]
pub(super) struct RoundResult {
    /// The last event that was examined.
    pub(super) upto: Seq,
    /// Whether the round examined as many events as it may.
    pub(super) full: bool,
    /// The last event that was old.
    pub(super) old: Option<Seq>,
    /// Whether rows were removed, which may have kept events.
    pub(super) dropped: bool,
}

impl Default for Sweep {
    fn default() -> Self {
        Self {
            phase: SweepPhase::Front,
            front: 0,
            behind: 0,
            rounds_left: ROUNDS_BEHIND,
            passes: 0,
            old: 0,
        }
    }
}

impl Sweep {
    pub(super) fn round(&self) -> Round {
        let (from, upto) = match self.phase {
            SweepPhase::Leftovers(at) => (at, self.front),
            SweepPhase::Front => (self.front, Seq::MAX),
            SweepPhase::Behind => (self.behind.max(self.front), Seq::MAX),
        };
        let old = self.old;
        Round { from, upto, old }
    }

    /// Records the result. Returns whether the pass goes on.
    pub(super) fn finish_round(&mut self, found: RoundResult) -> bool {
        self.old = self.old.max(found.old.unwrap_or(0));
        if found.dropped {
            self.phase = SweepPhase::Leftovers(0);
            return true;
        }
        match self.phase {
            SweepPhase::Leftovers(_) if found.full => {
                self.phase = SweepPhase::Leftovers(found.upto)
            }
            SweepPhase::Leftovers(_) => self.phase = SweepPhase::Front,
            SweepPhase::Front | SweepPhase::Behind => {
                let is_behind = matches!(self.phase, SweepPhase::Behind);
                if let Some(old) = found.old {
                    self.front = self.front.max(old);
                    self.phase = SweepPhase::Front;
                } else {
                    self.phase = SweepPhase::Behind;
                    self.behind = self.behind.max(found.upto);
                    self.rounds_left -= u32::from(is_behind);
                }
                if !found.full {
                    self.behind = 0;
                }
                if !found.full || self.rounds_left == 0 {
                    self.end_pass();
                    return false;
                }
            }
        }
        true
    }

    fn end_pass(&mut self) {
        self.passes = self.passes.wrapping_add(1);
        self.rounds_left = ROUNDS_BEHIND;
        self.phase = if self.passes.is_multiple_of(PASSES_PER_FULL) {
            SweepPhase::Leftovers(0)
        } else {
            SweepPhase::Front
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 10;

    /// Runs passes over events (`true` is old) until no old one is left. Returns how many passes, and
    /// the rounds of the longest.
    fn passes(mut events: Vec<(Seq, bool)>, most: u32) -> (u32, u32) {
        let mut sweep = Sweep::default();
        let mut longest = 0;
        for pass in 1..=most {
            let mut rounds = 0;
            loop {
                rounds += 1;
                let Round { from, upto, .. } = sweep.round();
                let inside = |seq: Seq| from < seq && seq <= upto;
                let looked = events.iter().filter(|(seq, _)| inside(*seq));
                let looked: Vec<_> = looked.take(LIMIT).copied().collect();
                let old = looked.iter().rfind(|(_, old)| *old);
                events.retain(|event| !(event.1 && looked.contains(event)));
                let found = RoundResult {
                    upto: looked.last().map_or(from, |(seq, _)| *seq),
                    full: looked.len() == LIMIT,
                    old: old.map(|(seq, _)| *seq),
                    dropped: false,
                };
                if !sweep.finish_round(found) {
                    break;
                }
            }
            longest = longest.max(rounds);
            if events.iter().all(|(_, old)| !old) {
                return (pass, longest);
            }
        }
        panic!("something old is left after {most} passes");
    }

    fn events(parts: &[(usize, bool)]) -> Vec<(Seq, bool)> {
        let all = parts.iter().flat_map(|(number, old)| vec![*old; *number]);
        (1..).zip(all).collect()
    }

    #[test]
    fn one_pass_removes_old_events_and_examines_few_young_ones() {
        let (_, rounds) = passes(events(&[(1000, true), (100_000, false)]), 1);
        assert!(
            rounds <= 1000 / LIMIT as u32 + 1 + ROUNDS_BEHIND,
            "{rounds}"
        );
    }

    #[test]
    fn a_young_event_among_old_ones_stops_nothing() {
        let parts = [(500, true), (3, false), (500, true), (1000, false)];
        passes(events(&parts), 1);
    }

    #[test]
    fn old_events_behind_many_young_ones_are_found_in_the_end() {
        let parts = [
            (50, true),
            (5000, false),
            (500, true),
            (5000, false),
            (5, true),
        ];
        let (passes, rounds) = passes(events(&parts), 200);
        assert!(passes > 2, "each pass looks at a few");
        assert!(rounds < 800, "{rounds}");
    }
}
