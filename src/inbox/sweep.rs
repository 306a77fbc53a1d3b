//! Where retention looks.
//!
//! Events are numbered as they arrive, so those that are old come first, unless the clock was ahead for a while: then some lie
//! behind others that seem young. A pass begins where the last one came to young events, and goes on as long as there are old ones.
//! Then it looks at some of those behind, the next pass at some more: in the end at all. Now and then it looks again at what earlier
//! ones have left, because it was owed or seemed young.

use crate::event::Seq;

/// Rounds of a pass behind the first young events.
const ROUNDS_BEHIND: u32 = 8;
/// Every so many passes begin where everything begins.
const PASSES_PER_FULL: u32 = 10;

/// How far retention has come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sweep {
    phase: SweepPhase,
    /// What is old and lies beyond this has not been met yet.
    front: Seq,
    /// Up to here it was looked behind the front.
    behind: Seq,
    /// So many rounds more of this pass.
    rounds_left: u32,
    passes: u32,
    /// An event that is old, the highest that was met: those before it are as well, whatever they say.
    old: Seq,
}

#[derive(Debug, Clone, Copy)]
enum SweepPhase {
    /// What was left before the front, beyond this event.
    Leftovers(Seq),
    Front,
    Behind,
}

/// What a round is to look at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Round {
    /// The events beyond this,
    pub(super) from: Seq,
    /// up to this.
    pub(super) upto: Seq,
    /// Those before this are old if they say that they arrived in the far future.
    pub(super) old: Seq,
}

/// What a round has found.
#[derive(Debug, Clone, Copy)]
pub(super) struct RoundResult {
    /// Up to where it looked.
    pub(super) upto: Seq,
    /// Whether it looked at all that one round may.
    pub(super) full: bool,
    /// The last one that was old.
    pub(super) old: Option<Seq>,
    /// Whether rows went, which may have kept events.
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

    /// Whether the pass goes on.
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

    /// Passes over events, by whether each is old, until nothing old is left: how many, and the most rounds of one.
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
    fn what_is_old_goes_in_one_pass_and_the_young_are_left_alone() {
        let (_, rounds) = passes(events(&[(1000, true), (100_000, false)]), 1);
        assert!(
            rounds <= 1000 / LIMIT as u32 + 1 + ROUNDS_BEHIND,
            "{rounds}"
        );
    }

    #[test]
    fn a_young_one_among_the_old_stops_nothing() {
        let parts = [(500, true), (3, false), (500, true), (1000, false)];
        passes(events(&parts), 1);
    }

    #[test]
    fn old_ones_behind_many_young_ones_are_found_in_the_end() {
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
