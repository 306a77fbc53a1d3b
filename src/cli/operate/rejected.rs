//! `livehook rejected`: lists rejected callbacks, and checks them again.

use clap::Args;

use super::query::{ListArgs, ReceivedArgs, reason};
use super::remote::{ANSWER_TIMEOUT, Remote};
use super::table::{TextTable, cell, maybe};
use super::{Operate, counted, newest, print_json, print_line, print_table};
use crate::api::{CountAnswer, RecheckRequest, RejectedView};
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
        let items: Vec<RejectedView> =
            newest(remote, &["rejected"], &query, self.shown.limit(false)?)?;
        if self.shown.json {
            return print_json(&items);
        }
        let mut table = TextTable::new(&[
            "RECEIVED", "REASON", "KIND", "SOURCE", "CLIENT", "BYTES", "ID",
        ]);
        for item in &items {
            table.row([
                cell(&item.receivedtime),
                cell(&item.reason),
                cell(&item.kind),
                cell(&item.source),
                maybe(item.client.as_ref()),
                cell(item.size),
                cell(&item.id),
            ]);
        }
        print_table(&table)
    }
}

impl RejectedArgs {
    fn recheck(&self, remote: &Remote) -> Result<(), Failed> {
        let body = RecheckRequest {
            source: self.received.source.clone(),
            dry_run: self.dry_run,
        };
        let answer: CountAnswer = remote.post(&["rejected", "recheck"], &body, ANSWER_TIMEOUT)?;
        if self.shown.json {
            return print_json(&[answer]);
        }
        let count = counted(answer.count, "callback");
        let what = match self.dry_run {
            true => "would be accepted: authentic with the current keys",
            false => "accepted: authentic with the current keys",
        };
        print_line(&format!("{count} {what}")).map(drop)
    }
}
