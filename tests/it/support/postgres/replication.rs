//! Standby servers, which follow a primary and can replace it.

use super::Postgres;

impl Postgres {
    /// Starts a standby that follows this server. See [`Postgres::wait_for_sync`].
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
        // After a promotion there is no standby to wait for.
        standby.append(
            "data/postgresql.auto.conf",
            "synchronous_standby_names = ''\n",
        );
        standby.started()
    }

    /// Makes commits wait for this standby. Returns when they do.
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

    /// Promotes a standby to primary.
    pub fn promote(&self) {
        self.sql("postgres", "SELECT pg_promote()");
        self.wait("the promotion", || {
            self.sql("postgres", "SELECT pg_is_in_recovery()") == "f"
        });
    }

    /// The name under which the primary knows this standby.
    fn name(&self) -> String {
        self.home
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .replace('-', "_")
    }
}
