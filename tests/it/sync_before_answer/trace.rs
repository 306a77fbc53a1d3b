//! Reads the output of `strace -f -y`.
//!
//! A call appears in the trace where it began and, if other threads did something in the meantime,
//! again where it returned (`resumed`). strace holds a thread until its line is written. So the
//! effect of one thread on another comes later in the trace, and an earlier line is not an effect.

use std::collections::{HashMap, HashSet};

/// The findings of a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proof {
    /// Requests that were answered 200.
    pub(super) answers: usize,
    /// Writes to the log that contained records of them.
    pub(super) records: usize,
    /// Syncs that covered these writes.
    pub(super) syncs: usize,
}

/// A system call.
#[derive(Debug)]
struct Call<'a> {
    thread: &'a str,
    name: &'a str,
    /// The arguments and the result, in one or two pieces.
    text: [&'a str; 2],
    began: usize,
    returned: usize,
}

impl Call<'_> {
    /// The descriptor of the first argument and its file, as shown by `-y`.
    fn file(&self) -> &str {
        let end = self.text[0].find('>').unwrap_or(0);
        &self.text[0][..end]
    }

    fn is_good(&self) -> bool {
        let text = if self.text[1].is_empty() {
            self.text[0]
        } else {
            self.text[1]
        };
        let result = text.rsplit_once(" = ").map(|(_, result)| result.trim());
        result.is_some_and(|result| !result.starts_with('-') && result != "?")
    }

    /// Whether the call is on a file of the log of events.
    fn on_log(&self) -> bool {
        self.path().contains("/log/") && self.path().ends_with(".log")
    }

    /// The file of the first argument. It may have several descriptors.
    fn path(&self) -> &str {
        self.file().split_once('<').map_or("", |(_, path)| path)
    }

    fn markers(&self) -> impl Iterator<Item = &str> {
        self.text.into_iter().flat_map(markers)
    }
}

/// Every `MARK…K` in a text.
fn markers(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("MARK").filter_map(|(at, _)| {
        let rest = &text[at..];
        rest.find('K').and(rest.get(..15))
    })
}

/// Matches each request with its record, the record with the sync of that file by the thread that
/// wrote it, and the sync with the answer.
pub(super) fn check(trace: &str) -> Result<Proof, Vec<String>> {
    let calls = calls(trace);
    let mut flaws = Vec::new();
    // For each record: where its sync returned, and where that sync began in the trace.
    let mut covered: HashMap<&str, Option<(usize, usize)>> = HashMap::new();
    let mut records = 0;
    // A sync covers only its own file.
    let mut on_log: HashMap<(&str, &str), Vec<&Call>> = HashMap::new();
    for call in calls.iter().filter(|call| call.on_log()) {
        let place = (call.thread, call.path());
        on_log.entry(place).or_default().push(call);
    }
    for calls in on_log.values() {
        let mut waiting: Vec<&str> = Vec::new();
        for call in calls {
            if call.name.starts_with("pwrite") {
                let before = waiting.len();
                for marker in call.markers() {
                    // If something is written twice, the first time counts.
                    covered.entry(marker).or_insert_with(|| {
                        waiting.push(marker);
                        None
                    });
                }
                records += usize::from(waiting.len() > before);
            } else if matches!(call.name, "fdatasync" | "fsync") {
                // A failed sync makes nothing durable, and the next one does not cover the earlier
                // writes either.
                for marker in waiting.drain(..).filter(|_| call.is_good()) {
                    covered.insert(marker, Some((call.returned, call.began)));
                }
            }
        }
    }
    let mut asked: HashMap<&str, &str> = HashMap::new();
    let mut answers = 0;
    let mut syncs = HashSet::new();
    for call in &calls {
        if matches!(call.name, "read" | "readv" | "recvfrom" | "recvmsg") {
            if let Some(marker) = call.markers().last() {
                asked.insert(call.file(), marker);
            }
            continue;
        }
        let is_answer = call.text[0].contains("\"HTTP/1.1 200");
        if !is_answer || !matches!(call.name, "write" | "writev" | "sendto" | "sendmsg") {
            continue;
        }
        let Some(marker) = asked.remove(call.file()) else {
            flaws.push(format!("line {}: an answer without a request", call.began));
            continue;
        };
        answers += 1;
        match covered.get(marker) {
            Some(Some((returned, began))) if *returned < call.began => {
                syncs.insert(*began);
            }
            known => flaws.push(format!(
                "line {}: {marker} is answered, synced: {known:?}",
                call.began
            )),
        }
    }
    if answers == 0 {
        flaws.push("no answer".to_owned());
    }
    if flaws.is_empty() {
        Ok(Proof {
            answers,
            records,
            syncs: syncs.len(),
        })
    } else {
        Err(flaws)
    }
}

/// The calls in the order in which they began. A read counts at its return.
fn calls(trace: &str) -> Vec<Call<'_>> {
    let mut calls: Vec<Call> = Vec::new();
    let mut unfinished: HashMap<&str, usize> = HashMap::new();
    for (line, text) in trace.lines().enumerate() {
        let Some((thread, rest)) = text.trim_start().split_once(' ') else {
            continue;
        };
        let rest = rest.trim_start();
        if rest.starts_with("<... ") {
            let end = rest.split_once("resumed>").map_or("", |(_, end)| end);
            if let Some(at) = unfinished.remove(thread) {
                calls[at].returned = line;
                calls[at].text[1] = end;
            }
            continue;
        }
        let Some((name, arguments)) = rest.split_once('(') else {
            continue;
        };
        let mut call = Call {
            thread,
            name,
            text: [arguments, ""],
            began: line,
            returned: line,
        };
        if let Some(begin) = arguments.strip_suffix("<unfinished ...>") {
            call.text[0] = begin;
            call.returned = usize::MAX;
            unfinished.insert(thread, calls.len());
        }
        calls.push(call);
    }
    calls
}
