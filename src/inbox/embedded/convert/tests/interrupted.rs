//! The conversion is interrupted, or cannot be finished.

use super::*;

/// All that the new state holds.
fn content(old: &Old) -> Vec<Vec<String>> {
    let tables = [
        "SELECT * FROM handlers ORDER BY 1",
        "SELECT * FROM deliveries ORDER BY 1, 2",
        "SELECT * FROM removed ORDER BY 1",
        "SELECT * FROM kept ORDER BY 1",
        "SELECT * FROM deleted ORDER BY 1",
        "SELECT * FROM sqlite_sequence",
    ];
    tables.iter().map(|sql| old.state(sql)).collect()
}

#[tokio::test]
async fn an_interrupted_conversion_is_begun_again_or_finished() {
    let mut old = Old::of(
        (1..=9)
            .chain(200..=9000)
            .filter(|seq| seq % 50 != 0)
            .chain(9500..=9510),
        9511..=9520,
    );
    old.now = BEGIN.plus(old.settings.retention).plus(DAY);
    old.sql(
        "INSERT INTO handlers VALUES (3, 'a', 9000, 0, NULL);
         INSERT INTO deliveries SELECT 3, seq, 12, 2, 3, 5, 6, 6, 'no' FROM events WHERE seq < 300;",
    );
    let whole = old.copy();
    whole.check().await.close();
    let expected = content(&whole);
    assert!(expected.iter().all(|rows| !rows.is_empty()));
    let mut steps = Vec::new();
    for interrupted in 0.. {
        let copy = old.copy();
        let mut left = interrupted;
        let result = copy.convert(&mut |step| {
            left -= 1;
            if left < 0 {
                steps.push(step.to_owned());
                return Err(io::Error::other("interrupted"));
            }
            Ok(())
        });
        copy.check().await.close();
        assert_eq!(content(&copy), expected, "after {:?}", steps.last());
        for left in [NEW_LOG, NEW_STATE, "state.new.db-wal", "inbox.db-wal"] {
            assert!(!copy.path().join(left).exists(), "{left}");
        }
        if result.is_ok() {
            break;
        }
    }
    steps.dedup();
    let expected = [
        "removed",
        "recovered",
        "deliveries",
        "events",
        "committed",
        "built",
        "log",
        "state",
        "accepted.0-wal",
        "accepted.1-wal",
        "inbox.db-wal",
        "inbox.db-shm",
        "inbox.db",
    ];
    assert_eq!(steps, expected);
}

/// The state is renamed without its write-ahead log.
#[tokio::test]
async fn a_state_that_another_program_reads_is_not_taken() {
    let old = Old::of((1..=10).chain(200..=210), std::iter::empty());
    old.sql("INSERT INTO handlers VALUES (1, 'h', 5, 0, NULL)");
    let mut reader = None;
    let path = old.path().join(NEW_STATE);
    let converted = old.convert(&mut |step| {
        if step == "events" {
            let conn = connect(&path).unwrap();
            conn.execute_batch("BEGIN; SELECT count(*) FROM handlers")
                .unwrap();
            reader = Some(conn);
        }
        Ok(())
    });
    assert!(
        matches!(&converted, Err(ConvertError::Refused(reason)) if reason.contains(NEW_STATE)),
        "{converted:?}"
    );
    assert!(!old.path().join("state.db").exists());
    drop(reader);
    let store = old.check().await;
    assert_eq!(store.position(1).await.unwrap(), 5);
}

#[tokio::test]
async fn a_conversion_that_failed_leaves_no_new_files() {
    let old = Old::of(1..=9000, std::iter::empty());
    old.sql("UPDATE events SET kind = 1 << 40 WHERE seq = 8000");
    assert!(old.open().is_err());
    for new in [NEW_LOG, NEW_STATE, "state.new.db-wal", "log", "state.db"] {
        assert!(!old.path().join(new).exists(), "{new}");
    }
    old.sql("UPDATE events SET kind = 1 WHERE seq = 8000");
    old.check().await;
}

#[test]
fn a_volume_that_becomes_full_is_told_as_that() {
    let old = Old::of(1..=20, std::iter::empty());
    let full = old.convert(&mut |step| match step {
        "events" => Err(io::ErrorKind::StorageFull.into()),
        _ => Ok(()),
    });
    let error = full.unwrap_err().into_open(old.path()).to_string();
    assert!(
        error.contains("inbox.db: the volume became full"),
        "{error}"
    );
}
