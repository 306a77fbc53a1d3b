//! What is said of a bad configuration.

use super::*;

#[test]
fn a_bad_variable_is_named() {
    for (name, value, expected) in [
        (
            "LIVEHOOK__SERVER__LISTN",
            "x",
            "environment: unknown variable `LIVEHOOK__SERVER__LISTN`, did you mean `LIVEHOOK__SERVER__LISTEN`?",
        ),
        (
            "LIVEHOOK__HANDLERS__LOG",
            "x",
            "environment: unknown variable `LIVEHOOK__HANDLERS__LOG`; an option of [server], [admin], [log] or [inbox] \
             is set by LIVEHOOK__SECTION__OPTION",
        ),
        (
            "LIVEHOOK_SERVER_LISTEN",
            "127.0.0.1:80",
            "environment: `LIVEHOOK_SERVER_LISTEN` sets nothing, did you mean `LIVEHOOK__SERVER__LISTEN`?",
        ),
        (
            "LIVEHOOK_INBOX__MIN_FREE",
            "1MiB",
            "environment: `LIVEHOOK_INBOX__MIN_FREE` sets nothing, did you mean `LIVEHOOK__INBOX__MIN_FREE`?",
        ),
        (
            "LIVEHOOK_ADMIN_TOKEN",
            "a",
            "environment: `LIVEHOOK_ADMIN_TOKEN` sets nothing, did you mean `LIVEHOOK__ADMIN__TOKEN`?",
        ),
        (
            "LIVEHOOK__SERVER__TRUSTED_PROXIES",
            "x",
            "`server.trusted_proxies` is a list, set it in the file",
        ),
        (
            "LIVEHOOK__SERVER__LISTEN",
            "x",
            "server.listen (set by LIVEHOOK__SERVER__LISTEN): `x` is not an address, write one such as \"0.0.0.0:8080\"",
        ),
        (
            "LIVEHOOK__SERVER__MAX_CONNECTIONS",
            "many",
            "server.max_connections (set by LIVEHOOK__SERVER__MAX_CONNECTIONS): expected a whole number from 0 up, found a text",
        ),
        (
            "LIVEHOOK__SERVER__WATCH",
            "yes",
            "(set by LIVEHOOK__SERVER__WATCH): expected true or false, found a text",
        ),
        (
            "LIVEHOOK__SERVER__DEADLINE",
            "20s",
            "server.deadline (set by LIVEHOOK__SERVER__DEADLINE): must be more than 0s and less than 20s",
        ),
        (
            "LIVEHOOK__INBOX__ENGINE",
            "sqlit",
            "(set by LIVEHOOK__INBOX__ENGINE): unknown value `sqlit`, did you mean `sqlite`?",
        ),
        (
            "LIVEHOOK__ADMIN__TOKEN",
            "",
            "admin.token (set by LIVEHOOK__ADMIN__TOKEN): is empty",
        ),
    ] {
        let message = read(LEAST, &[(name, value)]).unwrap_err();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_bad_configuration_gives_one_message_with_place_and_fix() {
    let cases = [
        // The file as a whole.
        ("[server\n", "/base/livehook.toml:1:8: "),
        ("a = \"secret\" x", "/base/livehook.toml:1:14: "),
        (
            "# mine\n\nsources:\n  css:\n    keys: [secret]\n",
            "/base/livehook.toml:3:9: this is YAML, livehook reads TOML",
        ),
        (
            "[sources.css]\nkeys = [\"secret]\n",
            "/base/livehook.toml:2:17: a quote is missing",
        ),
        (
            "[sources.css]\ntoken = secret\"\n",
            "/base/livehook.toml:2:9: a quote is missing",
        ),
        (
            "[sources.css]\nkeys = ['secret]\n",
            "/base/livehook.toml:2:17: a quote is missing",
        ),
        (
            "# it's mine\n[server]\nlisten = \"127.0.0.1:1\" # \"\n\n[sources.css]\nkeys = [\"secret]\ntoken = \"b\"\n\n[handlers.a]\nto = { type = \"log\" }\n",
            "/base/livehook.toml:6:",
        ),
        (
            "# it's mine\n[server]\nlisten = \"127.0.0.1:1\" # \"\n\n[sources.css]\nkeys = ['secret]\ntoken = \"b\"\n\n[handlers.a]\nto = { type = \"log\" }\n",
            "/base/livehook.toml:6:",
        ),
        (
            "# it's mine\n[server]\nlisten = \"127.0.0.1:1\" # \"\n\n[sources.css]\nkeys = [\"secret]\ntoken = \"b\"\n\n[handlers.a]\nto = { type = \"log\" }\n",
            "a quote is missing",
        ),
        (
            "# it's mine\n[server]\nlisten = \"127.0.0.1:1\" # \"\n\n[sources.css]\nkeys = ['secret]\ntoken = \"b\"\n\n[handlers.a]\nto = { type = \"log\" }\n",
            "a quote is missing",
        ),
        (
            "# it's mine\n[server]\nlisten = \"127.0.0.1:1\" # \"\n\n[sources.css]\nkeys = [\"secret, \"def\"]\ntoken = \"b\"\n\n[handlers.a]\nto = { type = \"log\" }\n",
            "a quote is missing",
        ),
        (
            "# it's mine\n[server]\nlisten = \"127.0.0.1:1\" # \"\n\n[sources.css]\nkeys = [\"good\", secret\"]\ntoken = \"b\"\n\n[handlers.a]\nto = { type = \"log\" }\n",
            "a quote is missing",
        ),
        (
            "# it's mine\n[server]\nlisten = \"127.0.0.1:1\" # \"\n\n[sources.css]\nkeys = [\n  \"good\",\n]\ntoken = \"secret\ntoken = \"b\"\n\n[handlers.a]\nto = { type = \"log\" }\n",
            "a quote is missing",
        ),
        (
            "[handlers.a]\nto = { type = \"secret, path = \"x\" }\n[sources.css]\nkeys = [\"a\"]\n",
            "/base/livehook.toml:2:",
        ),
        (
            "[handlers.a]\nto = { type = \"secret, path = \"x\" }\n[sources.css]\nkeys = [\"a\"]\n",
            "a quote is missing",
        ),
        (
            "[sources.css]\ntoken = \"\"\"secret\nkeys = [\"a\"]\n",
            "/base/livehook.toml:2:9: a quote is missing",
        ),
        (
            "[server]\nlisten = 127.0.0.1:28080\n\n[sources.css]\nkeys = [\"a\"]\n",
            "a text must stand in quotes",
        ),
        (
            "[server]\nlisten = 127.0.0.1:28080\n\n[sources.css]\nkeys = [\"a\"]\n",
            "/base/livehook.toml:2:",
        ),
        (
            "[sources.css]\ntoken = secret # it's ours",
            "a text must stand in quotes",
        ),
        (
            "[sources.css]\nexpiry_grace = 10m",
            "a text must stand in quotes",
        ),
        ("x = 1\nx = 2", "/base/livehook.toml:2:1: duplicate key `x`"),
        (
            "[server]\n[log]\n[server]\n",
            "/base/livehook.toml:3:2: duplicate key `server`",
        ),
        (
            "[sources.css]\nkeys = [\"a\"]\n[sources.\"css\"]\n",
            "/base/livehook.toml:3:10: duplicate key `\"css\"`",
        ),
        (
            "",
            "livehook.toml: sources: there is none, so nothing could come in",
        ),
        (
            "[servr]",
            "livehook.toml:1:2: unknown section `servr`, did you mean `server`?",
        ),
        (
            "servr = 1",
            "`servr` is in no section, did you mean `server`?",
        ),
        (
            "[store]",
            "unknown section `store`; known: `server`, `admin`, `log`, `inbox`, `streams`, `sources`, `handlers`",
        ),
        (
            "listen = \"127.0.0.1:1\"",
            "livehook.toml:1:1: `listen` is in no section; known: `server`, ",
        ),
        (
            "sources = 1",
            "sources: expected tables such as [sources.css]",
        ),
        ("server = 1", "server: expected a table, found a number"),
        // Sources.
        (
            "[source.css]",
            "unknown section `source`, did you mean `sources`?",
        ),
        (
            "[sources]\ncss = 1",
            "sources.css: expected a table, found a number",
        ),
        (
            "[sources.css]\nkey = 1",
            "unknown option `sources.css.key`, did you mean `keys`?",
        ),
        (
            "[sources.css]",
            "livehook.toml:1:10: sources.css: has neither a key nor a token",
        ),
        (
            "[sources.css]\nkeys = \"abc\"",
            "livehook.toml:2:1: sources.css.keys: expected a list, found a text; write keys = [\"\u{2026}\"]",
        ),
        (
            "[sources.css]\nkeys = [7]",
            "sources.css.keys: expected a text in quotes, found a number",
        ),
        ("[sources.css]\nkeys = [\"\"]", "sources.css.keys: is empty"),
        (
            "[sources.css]\ntoken = \" \"",
            "sources.css.token: is empty",
        ),
        (
            "[sources.css]\nkeys = [\"replace-me\"]",
            "sources.css.keys: still is the placeholder `replace-me`",
        ),
        (
            "[sources.css]\nkeys = [\"${CSS_KEY}\"]",
            "sources.css.keys: still holds a placeholder such as",
        ),
        (
            "[sources.css]\ntoken = \"<secret>\"",
            "sources.css.token: still holds a placeholder such as",
        ),
        (
            "[sources.css]\nkeys = [\"'secret'\"]",
            "sources.css.keys: stands in quotes",
        ),
        (
            "[sources.css]\nkeys = [\"good\", \"secret-key\"]",
            "sources.css.keys: the platform takes only keys of 1 to 32 letters and digits, this one holds something else",
        ),
        (
            "[sources.css]\nkeys = [\"secretsecretsecretsecretsecret123\"]",
            "sources.css.keys: the platform takes only keys of 1 to 32 letters and digits, this one has 33",
        ),
        (
            "[sources.css]\ntoken_env = \"$CSS_TOKEN?\"",
            "sources.css.token_env: is not the name of a variable",
        ),
        (
            "[server]\npublic_url = \"https://$HOST\"\n[sources.css]\nkeys = [\"a\"]",
            "server.public_url: still holds a placeholder such as",
        ),
        (
            "[sources.css]\ntoken = 1e5",
            "sources.css.token: expected a text in quotes, found a number",
        ),
        (
            "[sources.css]\ntoken_env = \"UNSET\"",
            "sources.css.token_env: the environment variable `UNSET` is not set",
        ),
        (
            "[sources.css]\nkeys_env = \"UNSET\"",
            "sources.css.keys_env: the environment variable `UNSET` is not set",
        ),
        (
            "[sources.css]\ntoken = \"a\"\ntoken_env = \"B\"",
            "sources.css: give only one of `token`, `token_file` and `token_env`",
        ),
        (
            "[sources.css]\ntoken_file = \"nowhere\"",
            "sources.css.token_file: cannot read /base/nowhere: No such file or directory (os error 2); put the token \
             into this file, or correct the path",
        ),
        (
            "[sources.css]\nkey_file = \"nowhere\"",
            "sources.css.key_file: cannot read /base/nowhere: No such file or directory (os error 2); put the template's \
             CallbackKey into this file, or correct the path",
        ),
        (
            "[sources.css]\nexpiry_grace = 10",
            "sources.css.expiry_grace: `10` is not a duration, write one such as \"10s\"",
        ),
        (
            "[sources.css]\nallow_unsigned = \"all\"",
            "expected `true` or a list of kinds, found a text; write allow_unsigned = [\"\u{2026}\"]",
        ),
        (
            "[sources.css]\nallow_unsigned = [\"relais\"]",
            "sources.css.allow_unsigned: unknown kind `relais`, did you mean `relay`?",
        ),
        (
            "[sources.css]\nallow_from = [\"here\"]",
            "sources.css.allow_from: `here` is no network",
        ),
        (
            "[sources.healthz]\nkeys = [\"a\"]",
            "sources.healthz: livehook itself uses the name `healthz`",
        ),
        (
            "[sources.unknown]\nkeys = [\"a\"]",
            "sources.unknown: livehook itself uses the name `unknown`",
        ),
        (
            "[sources.Css]\nkeys = [\"a\"]",
            "sources.Css: a name is 1 to 32 lower-case letters",
        ),
        (
            "[sources.\"a.b\"]\nkeyz = 1",
            "unknown option `sources.\"a.b\".keyz`, did you mean `keys`?",
        ),
    ];
    for (text, expected) in cases {
        let message = read(text, &[]).unwrap_err();
        assert!(message.contains(expected), "{text}: {message}");
        assert_eq!(message.lines().count(), 1, "{message}");
        assert!(!message.contains("secret"), "{message}");
    }
}

#[test]
fn a_bad_section_gives_one_message_with_place_and_fix() {
    let cases = [
        (
            "[server]\nlisten = \"8080\"",
            "server.listen: `8080` is not an address, write one such as",
        ),
        (
            "[server]\nlisten = 8080",
            "server.listen: expected a text in quotes, found a number",
        ),
        (
            "[server]\nlisten = { port = 1 }",
            "server.listen: expected a text in quotes, found a table",
        ),
        (
            "[server]\nlisten.port = 1",
            "server.listen: expected a text in quotes, found a table",
        ),
        (
            "[server.tls]\ncert = \"x\"",
            "unknown option `server.tls`; known: `listen`, `public_url`, ",
        ),
        (
            "[server]\nmax_connections = -1",
            "server.max_connections: `-1` is not a whole number from 0 up",
        ),
        (
            "[server]\nmax_connections = 1.5",
            "server.max_connections: expected a whole number from 0 up, found a number",
        ),
        (
            "[server]\nmax_connections = \"7\"",
            "server.max_connections: expected a whole number from 0 up, found a text",
        ),
        (
            "[server]\nmax_connections = 0",
            "server.max_connections: must be from 1",
        ),
        (
            "[server]\nmax_body = \"1 Mebi\"",
            "server.max_body: `1 Mebi` is not a size, write one such as",
        ),
        (
            "[server]\nmax_body = \"1B\"",
            "server.max_body: must be from 1KiB",
        ),
        (
            "[server]\nmax_body = \"32MiB\"",
            "server.max_inflight: must be at least `max_body`",
        ),
        (
            "[server]\ndeadline = \"20s\"",
            "server.deadline: must be more than 0s and less than 20s",
        ),
        (
            "[server]\ndeadline = true",
            "server.deadline: expected a text with a unit",
        ),
        (
            "[server]\ndrain_delay = \"9s\"",
            "server.drain_delay: must be at most 8s: the whole shutdown",
        ),
        (
            "[server]\nheader_timeout = \"0s\"",
            "server.header_timeout: must be more than 0s",
        ),
        (
            "[server]\nidle_timeout = \"25h\"",
            "server.idle_timeout: must be more than 0s and at most 24h",
        ),
        (
            "[server]\nwrite_timeout = \"0s\"",
            "server.write_timeout: must be more than 0s and at most 60s",
        ),
        (
            "[server]\nmax_head = \"1023\"",
            "server.max_head: must be from 1KiB to 1MiB",
        ),
        (
            "[server]\npublic_url = \"cb.example.com\"",
            "server.public_url: `cb.example.com` is not an address for callbacks",
        ),
        (
            "[server]\ntrusted_proxies = [\"10.0.0.0/33\"]",
            "server.trusted_proxies: `10.0.0.0/33` is no network",
        ),
        (
            "[server]\nwatch = 1",
            "server.watch: expected true or false, found a number",
        ),
        (
            "[admin]\nlisten = \"0.0.0.0:9090\"",
            "admin.listen: `0.0.0.0:9090` can be reached from other machines, which needs a token; set",
        ),
        (
            "[admin]\nlisten = \"127.0.0.1:8080\"",
            "admin.listen: `127.0.0.1:8080` is taken by server.listen (`0.0.0.0:8080`), give it another port",
        ),
        (
            "[server]\nlisten = \"[::1]:90\"\n[admin]\nlisten = \"[::1]:90\"",
            "admin.listen: `[::1]:90` is taken by server.listen",
        ),
        (
            "[server]\nlisten = \"[::]:90\"\n[admin]\nlisten = \"127.0.0.1:90\"",
            "admin.listen: `127.0.0.1:90` is taken by server.listen",
        ),
        ("[admin]\ntoken = \"\"", "admin.token: is empty"),
        ("[log]\nlevel = \"loud\"", "log.level: `loud` is no level"),
        (
            "[log]\nformat = \"jsn\"",
            "log.format: unknown value `jsn`, did you mean `json`?",
        ),
        (
            "[log]\nformat = 1",
            "log.format: expected a text in quotes, found a number",
        ),
        (
            "[inbox]\nengine = \"mysql\"",
            "inbox.engine: unknown value `mysql`; known: `sqlite`, `postgres`",
        ),
        (
            "[inbox]\nengine = \"postgres\"",
            "inbox.url: is missing; engine = \"postgres\" needs it, or url_file or url_env",
        ),
        (
            "[inbox]\nengine = \"postgres\"\nurl = \"postgres://a@b\"\nlock_wait = \"10s\"",
            "inbox.lock_wait: belongs to engine = \"sqlite\", but the engine is \"postgres\"",
        ),
        (
            "[inbox]\nengine = \"postgres\"\nurl = \"postgres://a@b\"\npath = \"data\"",
            "inbox.path: belongs to engine = \"sqlite\", but the engine is \"postgres\"",
        ),
        (
            "[inbox]\nengine = \"postgres\"\nurl = \"postgres://a@b\"\nurl_env = \"X\"",
            "inbox: give only one of `url`, `url_file` and `url_env`",
        ),
        (
            "[inbox]\nengine = \"postgres\"\nurl = \"postgres://a@b\"\nconnections = 1",
            "inbox.connections: `1` must be 2 to 1000",
        ),
        (
            "[inbox]\nengine = \"postgres\"\nurl = \"host=b\"",
            "inbox.url: is not a URL of a PostgreSQL server",
        ),
        (
            "[inbox]\nconnections = 8",
            "inbox.connections: belongs to engine = \"postgres\"",
        ),
        (
            "[inbox]\nurl = \"postgres://x\"",
            "inbox.url: belongs to engine = \"postgres\"",
        ),
        (
            "[inbox]\nurl_file = \"x\"",
            "inbox.url_file: belongs to engine = \"postgres\"",
        ),
        ("[inbox]\npath = \"\"", "inbox.path: is empty"),
        (
            "[inbox]\nretention = \"0s\"",
            "inbox.retention: `0s` must be more than nothing",
        ),
        (
            "[inbox]\nparked_retention = \"1000years\"",
            "inbox.parked_retention: `",
        ),
        (
            "[inbox]\nmin_free = \"lots\"",
            "inbox.min_free: `lots` is not a size",
        ),
        (
            "[inbox]\nsegment_size = \"1KiB\"",
            "inbox.segment_size: `1024` bytes must be 1MiB to 1GiB",
        ),
        (
            "[inbox]\ndedupe_window = \"29m\"",
            "inbox.dedupe_window: `29m` is less than the longest expiry_grace (`10m`) and 20m",
        ),
    ];
    for (text, expected) in cases {
        let message = read(&format!("{LEAST}{text}"), &[]).unwrap_err();
        assert!(message.contains(expected), "{text}: {message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

#[test]
fn a_bad_handler_gives_one_message_with_place_and_fix() {
    let cases = [
        (
            "concurency = 1",
            "unknown option `handlers.archive.concurency`, did you mean `concurrency`?",
        ),
        (
            "tiemout = \"1s\"",
            "unknown option `handlers.archive.tiemout`, did you mean `timeout`?",
        ),
        (
            "target = { type = \"log\" }",
            "unknown option `handlers.archive.target`; known: `kinds`, ",
        ),
        (
            "concurrency = 0",
            "handlers.archive.concurrency: must be from 1 to 1024",
        ),
        (
            "timeout = 10",
            "handlers.archive.timeout: `10` is not a duration, write one such as \"10s\"",
        ),
        (
            "timeout = \"0s\"",
            "handlers.archive.timeout: `0s` must be more than nothing",
        ),
        (
            "kinds = [\"recrd\"]",
            "handlers.archive.kinds: unknown kind `recrd`, did you mean `record`?",
        ),
        ("kinds = []", "handlers.archive.kinds: lists no kind"),
        (
            "kinds = \"record\"",
            "handlers.archive.kinds: expected a list, found a text",
        ),
        (
            "sources = [\"cs\"]",
            "handlers.archive.sources: there is no source `cs`; known: `css`",
        ),
        (
            "streams = [\"{\"]",
            "handlers.archive.streams: error parsing glob",
        ),
        (
            "order = \"strem\"",
            "handlers.archive.order: unknown value `strem`, did you mean `stream`?",
        ),
        (
            "payload = \"type\"",
            "handlers.archive.payload: unknown value `type`, did you mean `typed`?",
        ),
        (
            "start = \"new\"",
            "handlers.archive.start: unknown value `new`, did you mean `now`?",
        ),
        (
            "retry = { inital = \"1s\" }",
            "unknown option `handlers.archive.retry.inital`, did you mean `initial`?",
        ),
        (
            "retry = { max = 1 }",
            "handlers.archive.retry.max: `1` is not a duration",
        ),
        (
            "retry = { initial = \"6m\" }",
            "handlers.archive.retry.initial: must not be longer than `max`",
        ),
        (
            "retry = { max_age = \"0s\" }",
            "handlers.archive.retry.max_age: `0s` must be more",
        ),
        (
            "to = \"log\"",
            "handlers.archive.to: expected a table with `type`, found a text",
        ),
        ("to = {}", "handlers.archive.to.type: is missing"),
        (
            "to = { type = \"htp\" }",
            "handlers.archive.to.type: unknown value `htp`, did you mean `http`?",
        ),
        (
            "to = { type = \"filee\", path = \"x\" }",
            "handlers.archive.to.type: unknown value `filee`, did you mean `file`?",
        ),
        (
            "to = { type = \"kafka\" }",
            "handlers.archive.to.type: unknown value `kafka`; known: `log`, `file`, `http`, `exec`",
        ),
        (
            "to = { type = \"log\", path = \"x\" }",
            "unknown option `handlers.archive.to.path`, nothing can be set here",
        ),
        (
            "to = { type = \"file\" }",
            "handlers.archive.to.path: is missing",
        ),
        (
            "to = { type = \"file\", pth = \"x\" }",
            "unknown option `handlers.archive.to.pth`, did you mean `path`?",
        ),
        (
            "to = { type = \"file\", path = 5, sync = true }",
            "handlers.archive.to.path: expected a text in quotes, found a number",
        ),
        (
            "to = { type = \"file\", path = \"x\", rotate = \"dayly\" }",
            "handlers.archive.to.rotate: unknown value `dayly`, did you mean `daily`?",
        ),
        (
            "to = { type = \"file\", path = \"x\", sync = \"no\" }",
            "handlers.archive.to.sync: expected true or false, found a text",
        ),
        (
            "to = { type = \"exec\", command = \"ls -l\" }",
            "livehook.toml:4:23: handlers.archive.to.command: expected a list, found a text; write command = [\"\u{2026}\"]",
        ),
        (
            "to = { type = \"http\", url = \"http://x\", secret = 123 }",
            "handlers.archive.to.secret: expected a text in quotes, found a number",
        ),
        (
            "to = { type = \"http\", url = \"http://x\", headers = { X-Team = 5 } }",
            "handlers.archive.to.headers.X-Team: expected a text in quotes, found a number",
        ),
        (
            "to = { type = \"http\", url = \"http://{{ host }}/\" }",
            "handlers.archive.to.url: still holds a placeholder such as",
        ),
        (
            "to = { type = \"http\", url = \"http://x\", headers = { X-Team = \"Bearer $TOKEN\" } }",
            "handlers.archive.to.headers: `X-Team` still holds a placeholder such as",
        ),
        (
            "to = { type = \"http\", url = \"http://x\", secret = \"\" }",
            "handlers.archive.to.secret: is empty",
        ),
    ];
    for (text, expected) in cases {
        let message = read(&format!("{LEAST}[handlers.archive]\n{text}"), &[]).unwrap_err();
        assert!(message.contains(expected), "{text}: {message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    let message = read(&format!("{LEAST}[handlers.a_b]"), &[]).unwrap_err();
    assert!(message.contains("handlers.a_b: a name is"), "{message}");
}
