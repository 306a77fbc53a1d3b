//! A simulated disk that keeps synced data, and any part of the rest.
//!
//! Files consist of blocks of 4 KiB. Each block of an unsynced write is lost, or on disk, or torn
//! between sectors of 512 bytes, independently of the others. The same holds for names: a name that
//! was made, removed or changed is durable once its directory was synced; of a rename, either half
//! may be lost. After a failed sync, the kernel regards the data as written: a later sync reports no
//! error for it, and readers see it as long as the machine runs.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::recording::Op;

const BLOCK: u64 = 4096;
const SECTOR: u64 = 512;

/// Pseudo-random numbers, the same in each run.
#[derive(Clone)]
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

#[derive(Default)]
pub(super) struct Disk {
    files: Vec<Inode>,
    /// The current file or directory of an inode.
    by_inode: BTreeMap<u64, Node>,
    /// The durable names.
    names: BTreeMap<PathBuf, usize>,
    /// The changes of names that are not durable, in order.
    renamed: Vec<Naming>,
    /// The names as the system shows them.
    shown: BTreeMap<PathBuf, usize>,
    /// For each inode that is being synced: the data and names that existed when the sync began.
    syncing: BTreeMap<u64, Vec<Began>>,
}

#[derive(Clone)]
enum Node {
    File(usize),
    Directory(PathBuf),
}

struct Began {
    changes: u64,
}

#[derive(Clone)]
enum Naming {
    Made { at: u64, path: PathBuf, file: usize },
    Removed { at: u64, path: PathBuf },
}

impl Naming {
    fn at(&self) -> u64 {
        match self {
            Self::Made { at, .. } | Self::Removed { at, .. } => *at,
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Made { path, .. } | Self::Removed { path, .. } => path,
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Made { path, file, .. } => drop(names.insert(path.clone(), *file)),
            Self::Removed { path, .. } => drop(names.remove(path)),
        }
    }
}

#[derive(Default)]
struct Inode {
    is_directory: bool,
    durable: Vec<u8>,
    pending: Vec<Pending>,
}

struct Pending {
    at: u64,
    change: Change,
}

enum Change {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

impl Disk {
    /// Applies the recorded operation number `n`.
    pub(super) fn apply(&mut self, n: u64, op: &Op, chance: &mut Chance) {
        match op {
            Op::Create { inode, path } => {
                let file = self.make(n, path, Inode::default());
                self.by_inode.insert(*inode, Node::File(file));
            }
            Op::MakeDirectory { path } => {
                let directory = Inode {
                    is_directory: true,
                    ..Inode::default()
                };
                self.make(n, path, directory);
            }
            // All files were created in the recording. What is opened first is a directory.
            Op::Open { inode, path } => {
                let directory = || Node::Directory(path.clone());
                self.by_inode.entry(*inode).or_insert_with(directory);
            }
            Op::Write { inode, at, bytes } => {
                self.change(n, *inode, Change::Write(*at, bytes.to_vec()));
            }
            Op::Truncate { inode, length } => self.change(n, *inode, Change::Truncate(*length)),
            Op::SyncBegin { inode } => {
                let began = self.syncing.entry(*inode).or_default();
                began.push(Began { changes: n });
            }
            Op::SyncEnd { inode, good } => {
                // Of two syncs at the same time, the one that began first is taken to end first.
                // So no sync covers more than it really did.
                let began = self.syncing.get_mut(inode).and_then(|began| {
                    let first = (!began.is_empty()).then(|| began.remove(0));
                    first.map(|began| began.changes)
                });
                self.synced(*inode, began.unwrap(), *good, chance);
            }
            Op::Unlink { path } => self.remove(n, path),
            Op::Rename { inode, from, to } => {
                let Node::File(file) = self.by_inode[inode] else {
                    panic!("{} is a directory", from.display());
                };
                // Another thread may have made a file under this name before this was recorded.
                if self.shown.get(from) == Some(&file) {
                    self.remove(n, from);
                }
                self.name(n, to, file);
            }
            // The syncs of a process that was killed end with it.
            Op::Start => self.syncing.clear(),
            Op::Request { .. } | Op::Answer { .. } | Op::Failed => {}
        }
    }

    fn make(&mut self, at: u64, path: &Path, inode: Inode) -> usize {
        let file = self.files.len();
        self.files.push(inode);
        self.name(at, path, file);
        file
    }

    fn name(&mut self, at: u64, path: &Path, file: usize) {
        self.shown.insert(path.to_owned(), file);
        self.renamed.push(Naming::Made {
            at,
            path: path.to_owned(),
            file,
        });
    }

    fn change(&mut self, at: u64, inode: u64, change: Change) {
        if let Node::File(file) = self.by_inode[&inode] {
            self.files[file].pending.push(Pending { at, change });
        }
    }

    fn remove(&mut self, at: u64, path: &Path) {
        self.shown.remove(path);
        self.renamed.push(Naming::Removed {
            at,
            path: path.to_owned(),
        });
    }

    fn synced(&mut self, inode: u64, began: u64, good: bool, chance: &mut Chance) {
        match self.by_inode[&inode].clone() {
            Node::File(file) => {
                let file = &mut self.files[file];
                let covered = file.pending.partition_point(|pending| pending.at < began);
                for pending in file.pending.drain(..covered) {
                    if good {
                        pending.change.apply(&mut file.durable);
                    } else {
                        pending.change.apply_some(&mut file.durable, chance, 50);
                    }
                }
            }
            Node::Directory(directory) => {
                let names = &mut self.names;
                self.renamed.retain(|naming| {
                    let covered = naming.at() < began && naming.path().parent() == Some(&directory);
                    if covered && good {
                        naming.apply(names);
                    }
                    !covered
                });
            }
        }
    }

    /// Writes what a power cut leaves into an empty directory that stands for `from`.
    pub(super) fn cut(&self, from: &Path, into: &Path, chance: &mut Chance) {
        // The share of lost data is random, from nothing to everything.
        let survives = [0, 10, 50, 90, 100][chance.below(5) as usize];
        let mut names = self.names.clone();
        for naming in &self.renamed {
            if chance.percent(survives) {
                naming.apply(&mut names);
            }
        }
        for (path, file) in names {
            let name = path.strip_prefix(from).unwrap();
            // The shared memory of SQLite, which it makes again.
            if name.to_str().unwrap().ends_with("-shm") {
                continue;
            }
            let file = &self.files[file];
            let path = into.join(name);
            if file.is_directory {
                std::fs::create_dir(&path).unwrap();
                continue;
            }
            // A name in a directory that was lost is lost with it.
            if !path.parent().unwrap().exists() {
                continue;
            }
            let mut content = file.durable.clone();
            for pending in &file.pending {
                pending.change.apply_some(&mut content, chance, survives);
            }
            write_with_holes(&path, &content);
        }
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write(at, bytes) => put(content, *at, bytes),
            Self::Truncate(length) => content.resize(*length as usize, 0),
        }
    }

    /// Writes each block with this chance, or a part of it.
    fn apply_some(&self, content: &mut Vec<u8>, chance: &mut Chance, survives: u64) {
        let Self::Write(at, bytes) = self else {
            if chance.percent(survives) {
                self.apply(content);
            }
            return;
        };
        for (block, piece) in pieces(*at, bytes, BLOCK) {
            let torn = survives > 0 && survives < 100 && chance.percent(10);
            let whole = chance.percent(survives);
            for (sector, piece) in pieces(block, piece, SECTOR) {
                if if torn { chance.percent(50) } else { whole } {
                    put(content, sector, piece);
                }
            }
        }
    }
}

/// Splits a write at multiples of this many bytes.
fn pieces(mut at: u64, mut bytes: &[u8], unit: u64) -> Vec<(u64, &[u8])> {
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let length = (unit - at % unit).min(bytes.len() as u64);
        let (piece, rest) = bytes.split_at(length as usize);
        pieces.push((at, piece));
        (at, bytes) = (at + length, rest);
    }
    pieces
}

fn put(content: &mut Vec<u8>, at: u64, bytes: &[u8]) {
    let end = at as usize + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[at as usize..end].copy_from_slice(bytes);
}

/// Zeros use no memory.
fn write_with_holes(path: &Path, content: &[u8]) {
    let file = File::create(path).unwrap();
    file.set_len(content.len() as u64).unwrap();
    for (at, piece) in pieces(0, content, BLOCK) {
        if piece.iter().any(|byte| *byte != 0) {
            file.write_all_at(piece, at).unwrap();
        }
    }
}
