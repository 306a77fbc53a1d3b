//! The platform's clock and the receiver's differ.

use super::{RestartedServer, assert_proven};
use crate::support::simulation::simulate;

/// Four kinds, all signed.
const KINDS: &str = "--kinds stream-begin,stream-end,record,image-audit --events 60 --connections 4 --time-scale 60000";

#[test]
fn up_to_the_grace_a_wrong_clock_costs_nothing() {
    let restarted = RestartedServer::start();
    for offset in ["19m", "-19m", "1h"] {
        let more = format!("{} {KINDS} --clock-offset {offset}", restarted.arguments());
        assert_proven(&simulate(&restarted.css(), &more).good());
    }
}

#[test]
fn beyond_the_grace_everything_is_refused_and_logged() {
    let restarted = RestartedServer::start();
    let more = format!("{} {KINDS} --clock-offset -1h", restarted.arguments());
    let report = simulate(&restarted.css(), &more).bad();
    assert_eq!(
        (&report["acknowledged"], &report["given_up"]),
        (&0.into(), &60.into())
    );
    assert_eq!(report["answers"].as_object().unwrap().len(), 1, "{report}");
    assert!(report["answers"]["401"].as_u64().unwrap() > 60);
    let server = restarted.server();
    let offset = server.metric("livehook_clock_offset_seconds{source=\"css\"}");
    // Signatures that are not renewed age as fast as the shortened schedule.
    assert!((-4400.0..=-3590.0).contains(&offset), "{offset}");
    assert!(server.log().contains("clock"), "{}", server.log());
    assert!(server.events().is_empty());
}
