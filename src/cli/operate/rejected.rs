//! `livehook rejected`: lists rejected callbacks, and checks them again.

use clap::Args;
use serde_json::json;

use super::query::{ListArgs, ReceivedArgs, reason};
use super::remote::Remote;
use super::table::{TextTable, cell};
use super::{Operate, counted, newest, print_json, print_line, print_table};
use crate::cli::Failed;
use crate::rejected::Reason;

#[derive(Debug, Args)]
pub(in crate::cli) struct RejectedArgs {
    #[command(flatten)]
    received: ReceivedArgs,
    /// Only rejected for this reason, such as signature
    #[arg(long, value_parser = reason)]
    reason: Option<Reason>,
    #[command(flatten)]
    shown: ListArgs,
    /// Check the callbacks again that were refused for their signature or sent to an unknown URL,
    /// and accept those that are authentic with the current keys
    #[arg(long, conflicts_with_all = ["kind", "from", "to", "reason", "limit"])]
    recheck: bool,
    /// With --recheck: only count the callbacks
    #[arg(long, requires = "recheck")]
    dry_run: bool,
}

impl Operate for RejectedArgs {
    fn run(&self, remote: &Remote) -> Result<(), Failed> {
        if self.recheck {
            return self.recheck(remote);
        }
        let mut query = self.received.query();
        query.extend(
            self.reason
                .map(|reason| ("reason", reason.slug().to_owned())),
        );
        let items = newest(remote, &["rejected"], &query, self.shown.limit(false)?)?;
        if self.shown.json {
            return print_json(&items);
        }
        let mut table = TextTable::new(&[
            "RECEIVED", "REASON", "KIND", "SOURCE", "CLIENT", "BYTES", "ID",
        ]);
        for item in &items {
            let names = [
                "receivedtime",
                "reason",
                "kind",
                "source",
                "client",
                "size",
                "id",
            ];
            table.row(names.map(|name| cell(&item[name])));
        }
        print_table(&table)
    }
}

impl RejectedArgs {
    fn recheck(&self, remote: &Remote) -> Result<(), Failed> {
        let source = self
            .received
            .query()
            .into_iter()
            .find(|(name, _)| *name == "source");
        let mut body = json!({ "dry_run": self.dry_run });
        if let Some((_, source)) = source {
            body["source"] = source.into();
        }
        let answer = remote.post(&["rejected", "recheck"], &body)?;
        if self.shown.json {
            return print_line(&answer.to_string()).map(drop);
        }
        let count = counted(answer["count"].as_u64().unwrap_or_default(), "callback");
        let what = match self.dry_run {
            true => "would be accepted: authentic with the current keys",
            false => "accepted: authentic with the current keys",
        };
        print_line(&format!("{count} {what}")).map(drop)
    }
}
