#![allow(clippy::unwrap_used)]

use super::*;
use crate::inbox::embedded::convert::tests::event;

/// A batch as the first release wrote it.
pub(in super::super) fn encode(events: &[OldEvent]) -> Vec<u8> {
    let mut content = Vec::new();
    for event in events {
        content.extend_from_slice(&event.received.millis().to_le_bytes());
        content.extend_from_slice(event.id.as_bytes());
        content.extend_from_slice(&event.code.to_le_bytes());
        content.extend_from_slice(&(event.source.len() as u32).to_le_bytes());
        content.extend_from_slice(&(event.body.len() as u32).to_le_bytes());
        content.extend_from_slice(event.source.as_bytes());
        content.extend_from_slice(&event.body);
    }
    let mut head = Head {
        first: events[0].seq,
        count: events.len() as u32,
        length: content.len() as u32,
        crc: 0,
    };
    head.crc = head.sum(&content);
    let mut bytes = MARK.to_vec();
    bytes.extend_from_slice(&head.first.to_le_bytes());
    bytes.extend_from_slice(&head.count.to_le_bytes());
    bytes.extend_from_slice(&head.length.to_le_bytes());
    bytes.extend_from_slice(&head.crc.to_le_bytes());
    bytes.resize(HEAD, 0);
    bytes.extend_from_slice(&content);
    bytes.resize(bytes.len().next_multiple_of(BLOCK as usize), 0);
    bytes
}

/// A file of these batches.
fn file(dir: &Path, name: &str, batches: &[(Seq, Seq)]) -> Vec<u8> {
    let batch = |(first, last): &(Seq, Seq)| {
        let events: Vec<OldEvent> = (*first..=*last).map(event).collect();
        encode(&events)
    };
    let bytes: Vec<u8> = batches.iter().flat_map(batch).collect();
    std::fs::write(dir.join(name), &bytes).unwrap();
    bytes
}

fn recovered(dir: &Path, last: Seq) -> Result<Vec<Seq>, ConvertError> {
    let mut found = Vec::new();
    recover(dir, last, |recovered| {
        assert_eq!(*recovered, event(recovered.seq));
        found.push(recovered.seq);
        Ok(())
    })?;
    Ok(found)
}

fn all(first: Seq, last: Seq) -> Vec<Seq> {
    (first..=last).collect()
}

#[test]
fn what_was_accepted_is_recovered_from_any_number_on() {
    let dir = tempfile::tempdir().unwrap();
    assert!(recovered(dir.path(), 0).unwrap().is_empty());
    file(dir.path(), NAMES[0], &[(1, 3), (4, 4), (5, 29)]);
    file(dir.path(), NAMES[1], &[(30, 31)]);
    for last in 0..=31 {
        assert_eq!(recovered(dir.path(), last).unwrap(), all(last + 1, 31));
    }
}

/// At every length that a crash can leave of the last batch, and with every hole in it.
#[test]
fn a_torn_end_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(NAMES[0]);
    let whole = file(dir.path(), NAMES[0], &[(1, 2)]);
    let both = file(dir.path(), NAMES[0], &[(1, 2), (3, 5)]);
    let end = both.iter().rposition(|byte| *byte != 0).unwrap();
    for length in whole.len()..end - 8 {
        std::fs::write(&path, &both[..length]).unwrap();
        assert_eq!(recovered(dir.path(), 0).unwrap(), [1, 2], "{length}");
        let mut holes = both.clone();
        holes[length..length + 8].fill(0);
        if holes != both {
            std::fs::write(&path, &holes).unwrap();
            assert_eq!(recovered(dir.path(), 0).unwrap(), [1, 2], "{length}");
        }
    }
    std::fs::write(&path, &both).unwrap();
    assert_eq!(recovered(dir.path(), 0).unwrap(), all(1, 5));
}

#[test]
fn damage_in_the_middle_is_no_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(NAMES[0]);
    let first = file(dir.path(), NAMES[0], &[(1, 2)]).len();
    let whole = file(dir.path(), NAMES[0], &[(1, 2), (3, 5), (6, 7)]);
    for at in [0, 9, 20, 24, HEAD + 5, HEAD + 200, first, first + 25] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        std::fs::write(&path, damaged).unwrap();
        let lost = if at < first { 1 } else { 3 };
        match recovered(dir.path(), 0) {
            Err(ConvertError::Files(LogError::Lost { first, .. })) => assert_eq!(first, lost),
            other => panic!("{other:?} after damage at {at}"),
        }
        // What SQLite has is not needed.
        assert_eq!(recovered(dir.path(), 5).unwrap(), [6, 7]);
    }
}

/// Files were used in turns.
#[test]
fn old_content_does_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let old = file(dir.path(), NAMES[0], &[(1, 9), (10, 19), (20, 29)]);
    file(dir.path(), NAMES[1], &[(30, 39), (40, 49)]);
    let new = file(dir.path(), NAMES[0], &[(50, 59)]);
    let used_again = [&new[..], &old[new.len()..]].concat();
    std::fs::write(dir.path().join(NAMES[0]), &used_again).unwrap();
    for last in 29..=59 {
        assert_eq!(recovered(dir.path(), last).unwrap(), all(last + 1, 59));
    }
    // The batch that was being written was torn.
    let mut torn = used_again;
    torn[HEAD + 3] ^= 1;
    std::fs::write(dir.path().join(NAMES[0]), torn).unwrap();
    assert_eq!(recovered(dir.path(), 29).unwrap(), all(30, 49));
}

/// While another program read `inbox.db`, a file was written on behind its old content, and the other one has what is between.
#[test]
fn a_newer_batch_right_behind_an_older_one_is_found() {
    let dir = tempfile::tempdir().unwrap();
    file(dir.path(), NAMES[0], &[(1, 3), (7, 9)]);
    file(dir.path(), NAMES[1], &[(4, 6)]);
    for last in 0..=9 {
        assert_eq!(recovered(dir.path(), last).unwrap(), all(last + 1, 9));
    }
}
