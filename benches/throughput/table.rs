//! The table of results, as medians over the rounds.

use std::collections::BTreeMap;
use std::fmt;

use livehook::Clock;

use crate::disk::Appends;
use crate::sender::Answers;
use crate::subject::Subject;

/// One measurement of a subject in a closed loop. Times of answers are milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Answers per second.
    pub rate: f64,
    pub p50: f64,
    pub p99: f64,
    /// Seconds of processor time per event.
    pub cpu: f64,
    /// Bytes.
    pub memory: u64,
    /// The share of the processors that unrelated programs used.
    pub others: f64,
}

/// One measurement of livehook in an open loop.
#[derive(Debug, Clone, Copy)]
pub struct OpenLoop {
    pub answers: Answers,
    /// Measured just before the load.
    pub disk: Appends,
}

/// The rate of an open loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OpenPace {
    /// Half the rate of the closed loop.
    Half,
    /// The same on every machine.
    Common,
}

/// All results.
pub struct Table {
    head: String,
    samples: BTreeMap<(u32, Subject), Vec<Sample>>,
    open: BTreeMap<OpenPace, Vec<OpenLoop>>,
}

impl Table {
    pub fn new(rounds: u32, seconds: u32) -> Self {
        let day = Clock::system().now().day_and_hour().0;
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpus = read("/proc/cpuinfo");
        let model = cpus
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            head: format!(
                "livehook {} on {day}: {} × {}, Linux {}; {rounds} × {seconds} s",
                env!("CARGO_PKG_VERSION"),
                std::thread::available_parallelism().map_or(0, usize::from),
                model.map_or("an unknown processor", |(_, name)| name),
                read("/proc/sys/kernel/osrelease").trim(),
            ),
            samples: BTreeMap::new(),
            open: BTreeMap::new(),
        }
    }

    pub fn add(&mut self, subject: &Subject, connections: u32, sample: Sample) {
        self.samples
            .entry((connections, subject.clone()))
            .or_default()
            .push(sample);
    }

    pub fn add_open_loop(&mut self, pace: OpenPace, open: OpenLoop) {
        self.open.entry(pace).or_default().push(open);
    }

    /// The median of the ratios of each round, in which both ran under the same conditions.
    fn ratio(&self, key: &(u32, Subject), to: Subject, of: fn(&Sample) -> f64) -> String {
        let (Some(these), Some(those)) = (self.samples.get(key), self.samples.get(&(key.0, to)))
        else {
            return "–".to_owned();
        };
        let mut ratios: Vec<f64> = these
            .iter()
            .zip(those)
            .map(|(this, that)| of(this) / of(that))
            .collect();
        match percentile(&mut ratios, 0.5) {
            small if small < 0.1 => format!("{small:.4}"),
            ratio => format!("{ratio:.2}"),
        }
    }

    fn row(
        &self,
        key: &(u32, Subject),
        samples: &[Sample],
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        let all = |of: fn(&Sample) -> f64| samples.iter().map(of).collect::<Vec<f64>>();
        let median = |of| percentile(&mut all(of), 0.5);
        let rates = all(|sample| sample.rate);
        let spread = rates.iter().copied().fold(0.0, f64::max)
            - rates.iter().copied().fold(f64::MAX, f64::min);
        let rate = median(|sample| sample.rate);
        writeln!(
            f,
            "| {} | {} | {rate:.0} ± {:.0} % | {} | {} | {:.2} | {:.2} | {:.1} | {} | {:.0} |",
            key.1,
            key.0,
            spread / 2.0 / rate * 100.0,
            self.ratio(key, Subject::Axum, |sample| sample.rate),
            self.ratio(key, Subject::Livehook, |sample| sample.rate),
            median(|sample| sample.p50),
            median(|sample| sample.p99),
            median(|sample| sample.cpu * 1e6),
            self.ratio(key, Subject::Livehook, |sample| sample.cpu),
            median(|sample| sample.memory as f64 / f64::from(1 << 20)),
        )
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let samples = self.samples.values().flatten();
        let mut others: Vec<f64> = samples.map(|sample| sample.others * 100.0).collect();
        writeln!(
            f,
            "\n{}. Other programs had {:.0} % of the processors, at the worst {:.0} %.\n",
            self.head,
            percentile(&mut others, 0.5),
            percentile(&mut others, 1.0),
        )?;
        writeln!(
            f,
            "| server | connections | answers/s | × (a) | × (b) | p50 ms | p99 ms | CPU µs/event | CPU × (b) | RSS MiB |"
        )?;
        writeln!(f, "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")?;
        for (key, samples) in &self.samples {
            self.row(key, samples, f)?;
        }
        if self.open.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "\n| (b), open loop | p50 ms | p99 ms | p99.9 ms | most ms | fdatasync p50 ms | p99 ms | p99 × fdatasync's | generator CPU µs/event |"
        )?;
        writeln!(f, "|---|--:|--:|--:|--:|--:|--:|--:|--:|")?;
        for (pace, open) in &self.open {
            open_row(*pace, open, f)?;
        }
        let all = self.open.values().flatten();
        let late = all.clone().filter(|open| !open.answers.kept_up).count();
        if late > 0 {
            writeln!(
                f,
                "\nIn {late} of {} open loops the GENERATOR did not keep up: their times are too long.",
                all.count()
            )?;
        }
        Ok(())
    }
}

fn open_row(pace: OpenPace, open: &[OpenLoop], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let median =
        |of: fn(&OpenLoop) -> f64| percentile(&mut open.iter().map(of).collect::<Vec<_>>(), 0.5);
    writeln!(
        f,
        "| {:.0}/s{} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.1} |",
        median(|open| open.answers.rate),
        match pace {
            OpenPace::Half => ", half its rate",
            OpenPace::Common => "",
        },
        median(|open| open.answers.p50),
        median(|open| open.answers.p99),
        median(|open| open.answers.p999),
        median(|open| open.answers.max),
        median(|open| open.disk.p50),
        median(|open| open.disk.p99),
        median(|open| open.answers.p99 / open.disk.p99),
        median(|open| open.answers.cpu * 1e6),
    )
}

/// The smallest value that is not exceeded by this share of the values; 0.5 is the median.
pub fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (values.len() as f64 * share).ceil() as usize;
    values
        .get(at.saturating_sub(1))
        .copied()
        .unwrap_or(f64::NAN)
}
