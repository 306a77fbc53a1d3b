//! Standbys: copies that follow a primary, and take over from it.

use super::Postgres;

impl Postgres {
    /// A copy that follows this one, see [`Postgres::wait_for_sync`].
    pub fn standby(&self) -> Self {
        let standby = Self::empty();
        let from = format!(
            "host=127.0.0.1 port={} user=postgres application_name={}",
            self.port,
            standby.name()
        );
        let copied = standby
            .command("pg_basebackup")
            .args(["--no-sync", "--write-recovery-conf", "--checkpoint=fast"])
            .args(["--wal-method=stream", "--pgdata=data", "--dbname", &from])
            .output()
            .unwrap();
        assert!(
            copied.status.success(),
            "pg_basebackup: {}",
            String::from_utf8_lossy(&copied.stderr)
        );
        // Promoted, it is alone and must not wait for anybody.
        standby.append(
            "data/postgresql.auto.conf",
            "synchronous_standby_names = ''\n",
        );
        standby.started()
    }

    /// From now on commits wait for this standby. Returns when it is so.
    pub fn wait_for_sync(&self, standby: &Self) {
        self.configure(&[("synchronous_standby_names", &standby.name())]);
        let state = format!(
            "SELECT sync_state FROM pg_stat_replication WHERE application_name = '{}'",
            standby.name()
        );
        self.wait("the standby to be synchronous", || {
            self.sql("postgres", &state) == "sync"
        });
    }

    /// Makes a standby the primary.
    pub fn promote(&self) {
        self.sql("postgres", "SELECT pg_promote()");
        self.wait("the promotion", || {
            self.sql("postgres", "SELECT pg_is_in_recovery()") == "f"
        });
    }

    /// As which a standby is known to its primary.
    fn name(&self) -> String {
        self.home
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .replace('-', "_")
    }
}
