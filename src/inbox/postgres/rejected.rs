//! The rejected list of all receivers.

use super::*;

/// What is kept of a refused callback.
#[derive(Debug, Clone)]
pub(crate) struct RefusedRow {
    pub(crate) source: String,
    pub(crate) reason: &'static str,
    pub(crate) received: Timestamp,
    pub(crate) url_kind: Option<i32>,
    pub(crate) kind: i32,
    pub(crate) client: Option<String>,
    pub(crate) token_hash: Option<Vec<u8>>,
    pub(crate) size: i64,
    pub(crate) body: Option<Vec<u8>>,
}

impl Store {
    /// Adds them, and keeps no more than so many entries and bytes of bodies per source and reason, the newest.
    pub(in crate::inbox) async fn keep_refused(
        &self,
        rows: &[RefusedRow],
        entries: u64,
        bytes: u64,
    ) -> Result<(), StoreError> {
        let sources: Vec<&str> = rows.iter().map(|row| row.source.as_str()).collect();
        let reasons: Vec<&str> = rows.iter().map(|row| row.reason).collect();
        let received: Vec<i64> = rows.iter().map(|row| row.received.millis()).collect();
        let url_kinds: Vec<Option<i32>> = rows.iter().map(|row| row.url_kind).collect();
        let kinds: Vec<i32> = rows.iter().map(|row| row.kind).collect();
        let clients: Vec<Option<&str>> = rows.iter().map(|row| row.client.as_deref()).collect();
        let hashes: Vec<Option<&[u8]>> = rows.iter().map(|row| row.token_hash.as_deref()).collect();
        let sizes: Vec<i64> = rows.iter().map(|row| row.size).collect();
        let bodies: Vec<Option<&[u8]>> = rows.iter().map(|row| row.body.as_deref()).collect();
        let (entries, bytes) = (entries.cast_signed(), bytes.cast_signed());
        let values: [Value; 11] = [
            (&sources, Type::TEXT_ARRAY),
            (&reasons, Type::TEXT_ARRAY),
            (&received, Type::INT8_ARRAY),
            (&url_kinds, Type::INT4_ARRAY),
            (&kinds, Type::INT4_ARRAY),
            (&clients, Type::TEXT_ARRAY),
            (&hashes, Type::BYTEA_ARRAY),
            (&sizes, Type::INT8_ARRAY),
            (&bodies, Type::BYTEA_ARRAY),
            (&entries, Type::INT8),
            (&bytes, Type::INT8),
        ];
        let sql = "SELECT livehook.refuse_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
        self.shared.ask(sql, &values).await.map(drop)
    }
}
