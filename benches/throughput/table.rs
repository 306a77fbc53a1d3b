//! The table of results, as medians over the rounds.

use std::collections::BTreeMap;
use std::fmt;

use livehook::Clock;

use crate::callback::Kinds;
use crate::cost::{self, Cost};
use crate::open_loop::{self, OpenLoop, OpenPace};
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

/// All results.
pub struct Table {
    head: String,
    samples: BTreeMap<(u32, Subject), Vec<Sample>>,
    open: BTreeMap<OpenPace, Vec<OpenLoop>>,
    costs: BTreeMap<Kinds, Vec<Cost>>,
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
            costs: BTreeMap::new(),
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

    pub fn add_cost(&mut self, kinds: Kinds, cost: Cost) {
        self.costs.entry(kinds).or_default().push(cost);
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
            "| {} | {} | {rate:.0} ± {:.0} % | {} | {} | {:.2} | {:.2} | {:.1} | {} | {} | {:.0} |",
            key.1,
            key.0,
            spread / 2.0 / rate * 100.0,
            self.ratio(key, Subject::Axum, |sample| sample.rate),
            self.ratio(key, Subject::Livehook, |sample| sample.rate),
            median(|sample| sample.p50),
            median(|sample| sample.p99),
            median(|sample| sample.cpu * 1e6),
            self.ratio(key, Subject::Axum, |sample| sample.cpu),
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
            "| server | connections | answers/s | × (a) | × (b) | p50 ms | p99 ms | CPU µs/event | CPU × (a) | CPU × (b) | RSS MiB |"
        )?;
        writeln!(f, "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")?;
        for (key, samples) in &self.samples {
            self.row(key, samples, f)?;
        }
        open_loop::write_table(&self.open, f)?;
        cost::write_table(&self.costs, f)
    }
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
