//! A simulated disk. It shows what a power cut could leave: any of the sectors and names that were not synced.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use super::super::volume::{LogFile, Volume};

/// A sector is either as before or as written.
const SECTOR: usize = 512;

/// Chance that repeats.
#[derive(Debug, Clone)]
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(super) fn is(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }
}

#[derive(Debug, Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Debug, Default, Clone)]
struct Inode {
    /// As a running process sees it.
    now: Vec<u8>,
    /// As it is after a power cut, without any change that is not synced.
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Debug, Clone)]
enum NameChange {
    Create(String, u64),
    Rename(String, String, u64),
    Remove(String),
}

#[derive(Debug, Default)]
struct State {
    inodes: HashMap<u64, Inode>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    unsynced_names: Vec<NameChange>,
    next: u64,
    chance: Option<Chance>,
    /// One in so many operations fails.
    faults: u64,
    /// Syncs of files do nothing.
    syncs_nothing: bool,
}

/// A simulated volume.
#[derive(Debug, Clone, Default)]
pub(super) struct SimulatedDisk(Arc<Mutex<State>>);

pub(super) struct SimulatedFile {
    disk: SimulatedDisk,
    inode: u64,
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { at, bytes: written } => {
            if bytes.len() < at + written.len() {
                bytes.resize(at + written.len(), 0);
            }
            bytes[*at..at + written.len()].copy_from_slice(written);
        }
        Change::Length(length) => bytes.resize(*length, 0),
    }
}

fn apply_name(names: &mut BTreeMap<String, u64>, change: &NameChange) {
    match change {
        NameChange::Create(name, inode) => drop(names.insert(name.clone(), *inode)),
        NameChange::Rename(from, to, inode) => {
            names.remove(from);
            names.insert(to.clone(), *inode);
        }
        NameChange::Remove(name) => drop(names.remove(name)),
    }
}

impl SimulatedDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Has one in so many operations fail; none if it is 0.
    pub(super) fn fail(&self, one_in: u64, seed: u64) {
        let mut state = self.state();
        state.faults = one_in;
        state.chance = Some(Chance(seed));
    }

    /// Has syncs of files do nothing from now on.
    pub(super) fn ignore_syncs(&self) {
        self.state().syncs_nothing = true;
    }

    /// What could be left after a power cut now.
    pub(super) fn cut(&self, chance: &mut Chance) -> Self {
        let state = self.state();
        let mut left = State {
            next: state.next,
            ..State::default()
        };
        // Names are changed in order by the file systems that there are; the last ones may be missing.
        let mut names = state.durable_names.clone();
        let kept = chance.below(state.unsynced_names.len() as u64 + 1) as usize;
        for change in &state.unsynced_names[..kept] {
            apply_name(&mut names, change);
        }
        for (name, inode) in names {
            let file = &state.inodes[&inode];
            let mut bytes = file.durable.clone();
            for change in &file.unsynced {
                match change {
                    Change::Write { at, bytes: written } => {
                        let first = SECTOR - at % SECTOR;
                        let mut begin = 0;
                        let mut end = first.min(written.len());
                        while begin < end {
                            if !chance.is(2) {
                                let part = Change::Write {
                                    at: at + begin,
                                    bytes: written[begin..end].to_vec(),
                                };
                                apply(&mut bytes, &part);
                            }
                            (begin, end) = (end, (end + SECTOR).min(written.len()));
                        }
                    }
                    Change::Length(_) if chance.is(2) => {}
                    length @ Change::Length(_) => apply(&mut bytes, length),
                }
            }
            let inode = left.next;
            left.next += 1;
            left.inodes.insert(
                inode,
                Inode {
                    now: bytes.clone(),
                    durable: bytes,
                    unsynced: Vec::new(),
                },
            );
            left.names.insert(name.clone(), inode);
            left.durable_names.insert(name, inode);
        }
        Self(Arc::new(Mutex::new(left)))
    }
}

impl State {
    fn fault(&mut self) -> io::Result<()> {
        let (faults, Some(chance)) = (self.faults, &mut self.chance) else {
            return Ok(());
        };
        if faults > 0 && chance.is(faults) {
            return Err(io::Error::other("a simulated failure"));
        }
        Ok(())
    }

    fn change_name(&mut self, change: NameChange) {
        apply_name(&mut self.names, &change);
        self.unsynced_names.push(change);
    }

    fn change(&mut self, inode: u64, change: Change) {
        let file = self.inodes.get_mut(&inode).unwrap();
        apply(&mut file.now, &change);
        file.unsynced.push(change);
    }
}

impl Volume for SimulatedDisk {
    type File = SimulatedFile;

    fn create(&self, name: &str) -> io::Result<SimulatedFile> {
        let mut state = self.state();
        state.fault()?;
        let inode = state.next;
        state.next += 1;
        state.inodes.insert(inode, Inode::default());
        state.change_name(NameChange::Create(name.to_owned(), inode));
        let disk = self.clone();
        Ok(SimulatedFile { disk, inode })
    }

    fn open(&self, name: &str) -> io::Result<SimulatedFile> {
        let inode = self.state().names.get(name).copied();
        let disk = self.clone();
        inode
            .map(|inode| SimulatedFile { disk, inode })
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn open_to_write(&self, name: &str) -> io::Result<SimulatedFile> {
        self.open(name)
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let state = self.state();
        let file =
            |(name, inode): (&String, &u64)| (name.clone(), state.inodes[inode].now.len() as u64);
        Ok(state.names.iter().map(file).collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.fault()?;
        let inode = state.names[from];
        state.change_name(NameChange::Rename(from.to_owned(), to.to_owned(), inode));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.fault()?;
        state.change_name(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state();
        if let Err(error) = state.fault() {
            // What was not synced may be lost for good, and the next sync knows nothing of it.
            if state.chance.as_mut().is_some_and(|chance| chance.is(2)) {
                state.unsynced_names.clear();
            }
            return Err(error);
        }
        for change in std::mem::take(&mut state.unsynced_names) {
            apply_name(&mut state.durable_names, &change);
        }
        Ok(())
    }

    fn free(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    fn check(&self, _: &SimulatedFile, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn path(&self) -> &Path {
        Path::new("simulated")
    }
}

impl LogFile for SimulatedFile {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let state = self.disk.state();
        let now = &state.inodes[&self.inode].now;
        let rest = now.get(at as usize..).unwrap_or_default();
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn write_blocks(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        assert_eq!(bytes.len() % super::super::volume::BLOCK, 0);
        assert_eq!(at % super::super::volume::BLOCK as u64, 0);
        self.write_at(bytes, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let fault = state.fault();
        // One that fails may have written a part.
        let written = match (&fault, &mut state.chance) {
            (Err(_), Some(chance)) => chance.below(bytes.len() as u64 + 1) as usize,
            _ => bytes.len(),
        };
        let change = Change::Write {
            at: at as usize,
            bytes: bytes[..written].to_vec(),
        };
        state.change(self.inode, change);
        fault
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.fault()?;
        state.change(self.inode, Change::Length(length as usize));
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.state().inodes[&self.inode].now.len() as u64)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        if let Err(error) = state.fault() {
            // What was to be written may be on the disk or not, and no later sync brings it there.
            let mut chance = state.chance.clone().unwrap();
            let file = state.inodes.get_mut(&self.inode).unwrap();
            for change in std::mem::take(&mut file.unsynced) {
                if let Change::Write { at, bytes } = change {
                    for (n, sector) in bytes.chunks(SECTOR).enumerate() {
                        if chance.is(2) {
                            let (at, bytes) = (at + n * SECTOR, sector.to_vec());
                            apply(&mut file.durable, &Change::Write { at, bytes });
                        }
                    }
                } else {
                    apply(&mut file.durable, &change);
                }
            }
            state.chance = Some(chance);
            return Err(error);
        }
        if state.syncs_nothing {
            return Ok(());
        }
        let file = state.inodes.get_mut(&self.inode).unwrap();
        let Inode {
            durable, unsynced, ..
        } = file;
        for change in std::mem::take(unsynced) {
            apply(durable, &change);
        }
        Ok(())
    }
}
