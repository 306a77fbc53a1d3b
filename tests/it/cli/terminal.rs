//! The output of the commands on a terminal.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Stdio;

use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr;

use super::{lines, server};
use crate::support::server::livehook;
use crate::support::{TestServer, signed};

/// The output on a terminal with this many columns.
fn on_terminal(server: &TestServer, columns: u16, arguments: &[&str]) -> String {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let size = Winsize {
        ws_row: 25,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&master, size).unwrap();
    let slave = OpenOptions::new()
        .write(true)
        .custom_flags(OFlags::NOCTTY.bits().cast_signed())
        .open(name.to_str().unwrap())
        .unwrap();
    let mut child = livehook()
        .args(arguments)
        .args(["--admin", &server.admin_url()])
        .stdin(Stdio::null())
        .stdout(slave)
        .spawn()
        .unwrap();
    let mut sent = Vec::new();
    let mut master = File::from(master);
    let mut part = [0; 4096];
    // It ends with an error when nobody can write any more.
    while let Ok(read @ 1..) = master.read(&mut part) {
        sent.extend_from_slice(&part[..read]);
    }
    assert!(child.wait().unwrap().success());
    // The line ends of the terminal.
    String::from_utf8(sent).unwrap().replace("\r\n", "\n")
}

#[test]
fn a_help_text_fits_the_terminal() {
    let help = |command: &[&str]| {
        let output = livehook()
            .env("COLUMNS", "80")
            .args(command)
            .arg("--help")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let all = help(&[]);
    let (_, commands) = all.split_once("Commands:\n").unwrap();
    let (commands, _) = commands.split_once("\n\n").unwrap();
    // The further lines of a description are indented more.
    let names = commands.lines().filter(|line| !line.starts_with("   "));
    let names: Vec<_> = names
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(
        names.contains(&"serve") && names.contains(&"simulate"),
        "{names:?}"
    );
    for text in names.iter().map(|name| help(&[name])).chain([all.clone()]) {
        let wide = text.lines().find(|line| line.width() > 80);
        assert_eq!(wide, None, "{text}");
    }
}

#[test]
fn a_table_fits_the_terminal_and_is_whole_elsewhere() {
    let server = server();
    let stream = "直播间".repeat(20);
    let body = json!({ "event_type": 1, "appname": "live", "stream_id": stream });
    assert_eq!(server.post("/css", signed(body)).status, 200);
    let id = server.events()[0]["id"].as_str().unwrap().to_owned();

    let whole = lines(&server, &["events"]);
    assert!(whole[1].contains(&format!("live/{stream}  {id}")));
    for columns in [100, 120] {
        let sent = on_terminal(&server, columns, &["events"]);
        let (head, line) = sent.trim_end().split_once('\n').unwrap();
        assert!(line.ends_with(&id), "the id is whole: {sent}");
        assert!(line.contains("live/直") && line.contains("…  "), "{sent}");
        assert_eq!(line.width(), usize::from(columns), "{sent}");
        let before = |line: &str, part: &str| line[..line.find(part).unwrap()].width();
        assert_eq!(before(head, "ID"), before(line, &id), "{sent}");
    }
    let sent = on_terminal(&server, 60, &["events"]);
    assert!(sent.lines().all(|line| line.width() <= 60), "{sent}");
    assert_eq!(
        on_terminal(&server, 300, &["events"]).lines().nth(1),
        Some(&*whole[1])
    );
}

#[test]
fn no_name_sends_control_characters_to_the_terminal() {
    let server = server();
    let stream = "\u{1b}[2J\u{9b}31m\u{7f}\u{85}\u{202e}evil\u{feff}";
    let body =
        json!({ "event_type": 1, "appname": stream, "stream_id": stream, "stream_param": stream });
    assert_eq!(server.post("/css", signed(body)).status, 200);
    let event = server.events().pop().unwrap();
    let id = event["id"].as_str().unwrap();
    for arguments in [
        &["events"][..],
        &["events", "--json"],
        &["events", id],
        &["events", id, "--json"],
    ] {
        let sent = on_terminal(&server, 200, arguments);
        let moves = |letter: char| {
            letter != '\n' && letter.is_control() || matches!(letter, '\u{202e}' | '\u{feff}')
        };
        assert!(sent.contains("evil") && !sent.contains(moves), "{sent:?}");
    }
    let line = on_terminal(&server, 200, &["events", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), event);
}
