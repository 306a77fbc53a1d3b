//! What a handler is asked from outside.

use super::*;

impl Runner {
    pub(super) async fn obey(&mut self, command: Command) {
        match command {
            Command::Replay {
                selection,
                dry_run,
                reply,
            } => {
                let read_to = self.window.read_to();
                let mut owed: HashSet<Seq> = self
                    .window
                    .unsettled()
                    .chain(self.in_doubt.iter().copied())
                    .collect();
                owed.extend(self.unwritten.changes.iter().map(|change| match change {
                    Change::Wait { seq, .. }
                    | Change::Done { seq, .. }
                    | Change::Park { seq, .. }
                    | Change::Retry { seq, .. } => seq,
                }));
                let owes = Arc::new(move |seq: Seq| seq > read_to || owed.contains(&seq));
                let settings = self.settings.clone();
                let wants = Arc::new(move |event: &Event| settings.wants(event));
                let (inbox, id) = (self.inbox.clone(), self.id);
                self.tasks.spawn(async move {
                    let _ = reply.send(inbox.replay(id, selection, wants, owes, dry_run).await);
                    Report::RowsChanged
                });
            }
            Command::Discard {
                selection,
                dry_run,
                reply,
            } => {
                let result = self.inbox.discard(self.id, selection, dry_run).await;
                if let (Ok((_, lanes)), false) = (&result, dry_run) {
                    lanes.iter().for_each(|lane| self.unblock(*lane));
                    self.forget(selection);
                }
                self.look_for_due = true;
                let _ = reply.send(result.map(|(count, _)| count));
            }
            Command::Stop { .. } => {}
        }
    }

    /// A discarded delivery may be on its way.
    pub(super) fn forget(&mut self, selection: Selection) {
        let Selection::Event(seq) = selection else {
            return;
        };
        if let Some(at) = self.due.iter().position(|owed| owed.event.seq() == seq) {
            self.due.remove(at);
            self.in_doubt.remove(&seq);
        }
        if self
            .attempts
            .values()
            .any(|attempt| attempt.has_row && attempt.event.seq() == seq)
        {
            self.discarded.insert(seq);
        }
    }
}
