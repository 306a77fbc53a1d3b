//! Several receivers, one board.

use super::*;
use crate::support::postgres::shared;

#[test]
fn receivers_share_one_board_and_emit_each_change_once() {
    let url = shared().url(&shared().create_database());
    let settings = Settings {
        inbox: format!("engine = \"postgres\"\nurl = \"{url}\""),
        ..Settings::with_handlers(LIFE_HANDLERS)
    };
    let (first, second) = (TestServer::start(&settings), TestServer::start(&settings));
    let now = seconds();
    for n in 0..20 {
        let name = format!("s{n:02}");
        push(&first, &name, 1, 100 + n, now - 50);
        if n % 2 == 0 {
            push(&second, &name, 0, 100 + n, now - 10);
        }
    }
    let expected: Vec<String> = (0..20)
        .filter(|n| n % 2 == 1)
        .map(|n| format!("s{n:02}"))
        .collect();
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    for server in [&first, &second] {
        wait_until_live(server, &expected);
    }
    let both = || [state_events(&first), state_events(&second)].concat();
    wait_for("word of all", || (both().len() >= 10).then_some(()));
    // The receiver that fed the board may have ended.
    first.kill();
    push(&second, "s01", 0, 101, now - 5);
    push(&second, "new", 1, 999, now - 4);
    wait_up_to(Duration::from_secs(60), "the other to go on", || {
        let events = state_events(&second);
        let has = |kind: &str, stream: &str| {
            events.contains(&(format!("css.stream-{kind}"), stream.to_owned()))
        };
        (has("live", "new") && has("offline", "s01")).then_some(())
    });
    let listed = second.get("/api/events?kind=stream-live&limit=1000").json();
    let mut names: Vec<&str> = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["streamid"].as_str().unwrap())
        .collect();
    let number = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), number, "one event for each change");
}
