//! Measures the time that the disk needs to make data durable.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use crate::table::percentile;

const BLOCK: [u8; 4096] = [b'x'; 4096];

/// Milliseconds for an append of 4 KiB with fdatasync.
#[derive(Debug, Clone, Copy)]
pub struct Appends {
    pub p50: f64,
    pub p99: f64,
}

/// Times appends to a new file, one after the other.
pub fn appends(dir: &Path, number: usize) -> anyhow::Result<Appends> {
    let path = dir.join("appends");
    let mut file = File::options().append(true).create_new(true).open(&path)?;
    let mut times = Vec::with_capacity(number);
    for _ in 0..number {
        let begin = Instant::now();
        file.write_all(&BLOCK)?;
        file.sync_data()?;
        times.push(begin.elapsed().as_secs_f64() * 1000.0);
    }
    std::fs::remove_file(&path)?;
    Ok(Appends {
        p50: percentile(&mut times, 0.50),
        p99: percentile(&mut times, 0.99),
    })
}
