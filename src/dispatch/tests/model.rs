//! Random actions: every event is handled, and first attempts keep each stream's order.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use super::*;
use crate::event::Event;

/// Random numbers that a seed repeats.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// What the handler does: always the same for the same attempt.
fn act(seed: u64, event: &Event, before: usize) -> Act {
    let mixed = seed ^ ((event.seq() as u64) << 20) ^ (before as u64 + 1);
    let mut dice = Dice(mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    dice.roll(2);
    match dice.roll(20) {
        0..3 => Act::Retry,
        3 if before < 3 => Act::Hang,
        4 if before < 3 => Act::Panic,
        5 => Act::Reject,
        6 => Act::RetryAfter(Duration::from_millis(5)),
        7..10 => Act::Take(Duration::from_millis(dice.roll(8))),
        _ => Act::Done,
    }
}

async fn run(seed: u64) {
    let mut dice = Dice(seed.wrapping_mul(0x2545_F491_4F6C_DD1D) | 1);
    let fake = Fake::new(move |event, before| act(seed, event, before));
    let concurrency = 1 + dice.roll(6) as usize;
    let mut harness = Harness::with(&fake, |config| {
        config.concurrency = Some(concurrency);
        config.timeout = Duration::from_millis(30);
    })
    .await;
    let streams = 2 + dice.roll(10);
    for _ in 0..14 {
        match dice.roll(10) {
            0..6 => {
                let offset = dice.roll(streams);
                let count = 1 + dice.roll(60) as usize;
                harness
                    .store_many(count, |n| format!("s{}", (n as u64 * 7 + offset) % streams))
                    .await;
            }
            6 => harness.crash().await,
            7 => harness.restart(Duration::from_millis(dice.roll(20))).await,
            8 => {
                harness.replay(Selection::Parked).await;
            }
            _ => sleep(Duration::from_millis(dice.roll(60))).await,
        }
    }
    harness.idle().await;
    eventually(async || harness.rows().await.due == 0).await;
    assert!(!fake.overlapped.load(Ordering::Relaxed), "seed {seed}");

    let done = fake.done();
    let id = harness.dispatch.id("h").unwrap();
    let parked = harness.inbox.parked(id, None, false, 10_000).await.unwrap();
    let parked: Vec<Seq> = parked.items.iter().map(|item| item.event.seq()).collect();
    let mut first: HashMap<u64, Vec<Seq>> = HashMap::new();
    let begun = fake.begun();
    let events = harness.inbox.after(0, 100_000, usize::MAX).await.unwrap();
    let lanes: HashMap<Seq, u64> = events
        .iter()
        .map(|event| (event.seq(), event.lane()))
        .collect();
    for event in &events {
        let settled = done.contains(&event.seq()) || parked.contains(&event.seq());
        assert!(settled, "seed {seed}: {} is lost", event.seq());
    }
    for seq in begun {
        let of_lane = first.entry(lanes[&seq]).or_default();
        if !of_lane.contains(&seq) {
            of_lane.push(seq);
        }
    }
    for of_lane in first.values() {
        assert!(of_lane.is_sorted(), "seed {seed}: {of_lane:?}");
    }
}

#[tokio::test]
async fn nothing_is_lost_and_first_deliveries_are_in_order() {
    let rounds = std::env::var("MODEL_ROUNDS").map_or(6, |rounds| rounds.parse().unwrap());
    for seed in 1..=rounds {
        run(seed).await;
    }
}
