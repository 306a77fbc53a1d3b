//! Blocks: parts of what is stored of a stream.

use rusqlite::{Connection, Transaction, params};

use super::encoding::{decode, encode};
use crate::stream::Place;
use crate::stream::pushes::Push;

/// The key of the push of all facts without a `sequence`. No `sequence` starts like this.
const NO_SEQUENCE: &str = "~";

/// Places and pushes of a stream.
#[derive(Debug, Clone, Default)]
pub(super) struct Block {
    pub places: Vec<Place>,
    pub pushes: Vec<Push>,
}

pub(super) fn key_of(push: &Push) -> &str {
    sequence_key(push.sequence.as_deref())
}

pub(super) fn sequence_key(sequence: Option<&str>) -> &str {
    sequence.unwrap_or(NO_SEQUENCE)
}

impl Block {
    /// Reads the blocks of a stream, the newest first, until `take` returns `false`.
    pub(super) fn read(
        conn: &Connection,
        stream: i64,
        mut take: impl FnMut(i64, Self) -> bool,
    ) -> rusqlite::Result<()> {
        let mut select = conn
            .prepare_cached("SELECT id, content FROM blocks WHERE stream = ?1 ORDER BY id DESC")?;
        let mut rows = select.query([stream])?;
        while let Some(row) = rows.next()? {
            let id = row.get(0)?;
            let mut block = decode(row.get_ref(1)?.as_blob()?)?;
            for push in &mut block.pushes {
                push.block = Some(id);
            }
            if !take(id, block) {
                break;
            }
        }
        Ok(())
    }

    /// Reads one block.
    pub(super) fn load(conn: &Connection, id: i64) -> rusqlite::Result<Self> {
        conn.prepare_cached("SELECT content FROM blocks WHERE id = ?1")?
            .query_row([id], |row| decode(row.get_ref(0)?.as_blob()?))
    }

    /// Writes a block that is there again, or deletes it if nothing is left in it.
    pub(super) fn write(&self, tx: &Transaction, id: i64) -> rusqlite::Result<()> {
        if self.places.is_empty() && self.pushes.is_empty() {
            let mut delete = tx.prepare_cached("DELETE FROM blocks WHERE id = ?1")?;
            return delete.execute([id]).map(drop);
        }
        tx.prepare_cached("UPDATE blocks SET content = ?2 WHERE id = ?1")?
            .execute(params![id, self.encoded()?])
            .map(drop)
    }

    pub(super) fn encoded(&self) -> rusqlite::Result<Vec<u8>> {
        encode(&self.places, &self.pushes)
    }
}
