//! Reads the recording that `record.c` wrote.

use std::path::PathBuf;

/// A recorded operation and its time in milliseconds.
pub(super) struct Record<'a> {
    pub(super) at: u64,
    pub(super) op: Op<'a>,
}

/// An operation of the server.
#[derive(Debug)]
pub(super) enum Op<'a> {
    /// A process began.
    Start,
    Create {
        inode: u64,
        path: PathBuf,
    },
    Open {
        inode: u64,
        path: PathBuf,
    },
    Write {
        inode: u64,
        at: u64,
        bytes: &'a [u8],
    },
    Truncate {
        inode: u64,
        length: u64,
    },
    SyncBegin {
        inode: u64,
    },
    SyncEnd {
        inode: u64,
        good: bool,
    },
    Unlink {
        path: PathBuf,
    },
    Rename {
        inode: u64,
        from: PathBuf,
        to: PathBuf,
    },
    /// A request with this marker came in on a connection.
    Request {
        connection: u64,
        marker: &'a str,
    },
    /// A 200 or 202 is about to go out on a connection.
    Answer {
        connection: u64,
    },
    MakeDirectory {
        path: PathBuf,
    },
    /// The call that comes now fails, because the test wants it to.
    Failed,
}

/// The length of a head.
const HEAD: usize = 48;

/// How many bytes the whole records have.
pub(super) fn whole_records(bytes: &[u8]) -> usize {
    let mut whole = 0;
    while let Some(head) = bytes.get(whole..whole + HEAD) {
        let length = u64::from_ne_bytes(head[24..32].try_into().unwrap());
        let end = whole + HEAD + length as usize;
        if end > bytes.len() {
            break;
        }
        whole = end;
    }
    whole
}

/// The recorded operations, in order.
pub(super) fn read(bytes: &[u8]) -> Vec<Record<'_>> {
    let mut ops = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (head, after) = rest.split_at(HEAD);
        let number = |n: usize| u64::from_ne_bytes(head[8 * n..8 * n + 8].try_into().unwrap());
        let (payload, after) = after.split_at(number(3) as usize);
        rest = after;
        let (inode, offset) = (number(1), number(2));
        let (first, second) = payload.split_at(number(4) as usize);
        let text = |bytes| std::str::from_utf8(bytes).unwrap();
        let path = PathBuf::from;
        let op = match number(0) {
            1 => Op::Start,
            2 => Op::Create {
                inode,
                path: path(text(first)),
            },
            3 => Op::Open {
                inode,
                path: path(text(first)),
            },
            4 => Op::Write {
                inode,
                at: offset,
                bytes: first,
            },
            5 => Op::Truncate {
                inode,
                length: offset,
            },
            6 => Op::SyncBegin { inode },
            7 => Op::SyncEnd {
                inode,
                good: offset == 0,
            },
            8 => Op::Unlink {
                path: path(text(first)),
            },
            9 => Op::Rename {
                inode,
                from: path(text(first)),
                to: path(text(second)),
            },
            10 => Op::Request {
                connection: inode,
                marker: text(first),
            },
            11 => Op::Answer { connection: inode },
            12 => Op::MakeDirectory {
                path: path(text(first)),
            },
            13 => Op::Failed,
            other => panic!("a record of type {other}"),
        };
        ops.push(Record { at: number(5), op });
    }
    ops
}
