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
            "LIVEHOOK__SERVER__MAX_CONNECTIONS",
            "-1",
            "(set by LIVEHOOK__SERVER__MAX_CONNECTIONS): `-1` is not a whole number from 0 up",
        ),
        (
            "LIVEHOOK__SERVER__MAX_CONNECTIONS",
            "true",
            "(set by LIVEHOOK__SERVER__MAX_CONNECTIONS): expected a whole number from 0 up, found `true` or `false`",
        ),
        (
            "LIVEHOOK__SERVER__WATCH",
            "1",
            "(set by LIVEHOOK__SERVER__WATCH): expected true or false, found a number",
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
        ("[server\n", ":1:8", "/base/livehook.toml:1:8: "),
        ("a = \"secret\" x", ":1:14", "/base/livehook.toml:1:14: "),
        (
            "# mine\n\nsources:\n  css:\n    keys: [secret]\n",
            ":3:9",
            "/base/livehook.toml:3:9: this is YAML, livehook reads TOML",
        ),
        (
            "[sources.css]\nkeys = [\"secret]\n",
            ":2:17",
            "/base/livehook.toml:2:17: a quote is missing",
        ),
        (
            "[sources.css]\ntoken = secret\"\n",
            ":2:9",
            "/base/livehook.toml:2:9: a quote is missing",
        ),
        (
            "[sources.css]\nkeys = ['secret]\n",
            ":2:17",
            "/base/livehook.toml:2:17: a quote is missing",
        ),
        (
            "# it's mine\n[server]\nlisten = \"127.0.0.1:1\" # \"\n\n[sources.css]\nkeys = [\"secret]\ntoken = \"b\"\n\n[handlers.a]\nto = { type = \"log\" }\n",
            ":6:9",
            "/base/livehook.toml:6:",
        ),
        (
            "# it's mine\n[server]\nlisten = \"127.0.0.1:1\" # \"\n\n[sources.css]\nkeys = ['secret]\ntoken = \"b\"\n\n[handlers.a]\nto = { type = \"log\" }\n",
            ":6:9",
            "/base/livehook.toml:6:",
        ),
        (
            "# it's mine\n[server]\nlisten = \"127.0.0.1:1\" # \"\n\n[sources.css]\nkeys = [\"secret]\ntoken = \"b\"\n\n[handlers.a]\nto = { type = \"log\" }\n",
            ":6:9",
            "a quote is missing",
        ),
        (
            "# it's mine\n[server]\nlisten = \"127.0.0.1:1\" # \"\n\n[sources.css]\nkeys = ['secret]\ntoken = \"b\"\n\n[handlers.a]\nto = { type = \"log\" }\n",
            ":6:9",
            "a quote is missing",
        ),
        (
            "# it's mine\n[server]\nlisten = \"127.0.0.1:1\" # \"\n\n[sources.css]\nkeys = [\"secret, \"def\"]\ntoken = \"b\"\n\n[handlers.a]\nto = { type = \"log\" }\n",
            ":6:19",
            "a quote is missing",
        ),
        (
            "# it's mine\n[server]\nlisten = \"127.0.0.1:1\" # \"\n\n[sources.css]\nkeys = [\"good\", secret\"]\ntoken = \"b\"\n\n[handlers.a]\nto = { type = \"log\" }\n",
            ":6:17",
            "a quote is missing",
        ),
        (
            "# it's mine\n[server]\nlisten = \"127.0.0.1:1\" # \"\n\n[sources.css]\nkeys = [\n  \"good\",\n]\ntoken = \"secret\ntoken = \"b\"\n\n[handlers.a]\nto = { type = \"log\" }\n",
            ":9:16",
            "a quote is missing",
        ),
        (
            "[handlers.a]\nto = { type = \"secret, path = \"x\" }\n[sources.css]\nkeys = [\"a\"]\n",
            ":2:32",
            "/base/livehook.toml:2:",
        ),
        (
            "[handlers.a]\nto = { type = \"secret, path = \"x\" }\n[sources.css]\nkeys = [\"a\"]\n",
            ":2:32",
            "a quote is missing",
        ),
        (
            "[sources.css]\ntoken = \"\"\"secret\nkeys = [\"a\"]\n",
            ":2:9",
            "/base/livehook.toml:2:9: a quote is missing",
        ),
        (
            "[server]\nlisten = 127.0.0.1:28080\n\n[sources.css]\nkeys = [\"a\"]\n",
            ":2:15",
            "a text must stand in quotes",
        ),
        (
            "[server]\nlisten = 127.0.0.1:28080\n\n[sources.css]\nkeys = [\"a\"]\n",
            ":2:15",
            "/base/livehook.toml:2:",
        ),
        (
            "[sources.css]\ntoken = secret # it's ours",
            ":2:9",
            "a text must stand in quotes",
        ),
        (
            "[sources.css]\nexpiry_grace = 10m",
            ":2:16",
            "a text must stand in quotes",
        ),
        (
            "x = 1\nx = 2",
            ":2:1",
            "/base/livehook.toml:2:1: duplicate key `x`",
        ),
        (
            "[server]\n[log]\n[server]\n",
            ":3:2",
            "/base/livehook.toml:3:2: duplicate key `server`",
        ),
        (
            "[sources.css]\nkeys = [\"a\"]\n[sources.\"css\"]\n",
            ":3:10",
            "/base/livehook.toml:3:10: duplicate key `\"css\"`",
        ),
        (
            "[sources.css]\ntoken = \"a\\\"\nkeys = [\"b\"]\n",
            ":2:12",
            "a quote is missing",
        ),
        (
            "[sources.css]\ntoken = \"\"\"a\nkeys = [\"b\"\"\"\"\"]\ntoken_env = \"c\n",
            ":3:16",
            "unexpected key or value",
        ),
        (
            "[sources.css]\ntoken = 18446744073709551616",
            ":2:9",
            "livehook.toml:2:9: the number is too large",
        ),
        (
            "[server]\nmax_connections = 9223372036854775808",
            ":2:19",
            "the number is too large",
        ),
        (
            "",
            "",
            "livehook.toml: sources: there is none, so nothing could come in",
        ),
        (
            "[servr]",
            ":1:2",
            "livehook.toml:1:2: unknown section `servr`, did you mean `server`?",
        ),
        (
            "\"server.listen\" = \"127.0.0.1:1\"",
            "",
            "`\"server.listen\"` is in no section; known: `server`, ",
        ),
        (
            "[\"admin.token\"]",
            "",
            "unknown section `\"admin.token\"`; known: `server`, ",
        ),
        (
            "\"server[0]\" = 1",
            ":1:1",
            "`\"server[0]\"` is in no section",
        ),
        (
            "servr = 1",
            ":1:1",
            "`servr` is in no section, did you mean `server`?",
        ),
        (
            "[store]",
            ":1:2",
            "unknown section `store`; known: `server`, `admin`, `log`, `inbox`, `streams`, `sources`, `handlers`",
        ),
        (
            "listen = \"127.0.0.1:1\"",
            ":1:1",
            "livehook.toml:1:1: `listen` is in no section; known: `server`, ",
        ),
        (
            "sources = 1",
            ":1:1",
            "sources: expected tables such as [sources.css]",
        ),
        (
            "server = 1",
            ":1:1",
            "server: expected a table, found a number",
        ),
        (
            "server = [\"127.0.0.1:1\"]",
            ":1:1",
            "server: expected a table, found a list",
        ),
        (
            "[[sources.css]]\nkeys = [\"a\"]",
            ":1:11",
            "sources.css: expected a table, found a list",
        ),
        // Sources.
        (
            "[source.css]",
            ":1:2",
            "unknown section `source`, did you mean `sources`?",
        ),
        (
            "[sources]\ncss = 1",
            ":2:1",
            "sources.css: expected a table, found a number",
        ),
        (
            "[sources.css]\nkey = 1",
            ":2:1",
            "unknown option `sources.css.key`, did you mean `keys`?",
        ),
        (
            "[sources.css]",
            ":1:10",
            "livehook.toml:1:10: sources.css: has neither a key nor a token",
        ),
        (
            "[sources.css]\nkeys = \"abc\"",
            ":2:1",
            "livehook.toml:2:1: sources.css.keys: expected a list, found a text; write keys = [\"\u{2026}\"]",
        ),
        (
            "[sources.css]\nkeys = [7]",
            ":2:1",
            "sources.css.keys: expected a text in quotes, found a number",
        ),
        (
            "[sources.css]\nkeys = [\"\"]",
            ":2:1",
            "sources.css.keys: is empty",
        ),
        (
            "[sources.css]\ntoken = \" \"",
            ":2:1",
            "sources.css.token: is empty",
        ),
        (
            "[sources.css]\nkeys = [\"replace-me\"]",
            ":2:1",
            "sources.css.keys: still is the placeholder `replace-me`",
        ),
        (
            "[sources.css]\nkeys = [\"${CSS_KEY}\"]",
            ":2:1",
            "sources.css.keys: still holds a placeholder such as",
        ),
        (
            "[sources.css]\ntoken = \"<secret>\"",
            ":2:1",
            "sources.css.token: still holds a placeholder such as",
        ),
        (
            "[sources.css]\nkeys = [\"'secret'\"]",
            ":2:1",
            "sources.css.keys: stands in quotes",
        ),
        (
            "[sources.css]\nkeys = [\"good\", \"secret-key\"]",
            ":2:1",
            "sources.css.keys: the platform takes only keys of 1 to 32 letters and digits, this one holds something else",
        ),
        (
            "[sources.css]\nkeys = [\"secretsecretsecretsecretsecret123\"]",
            ":2:1",
            "sources.css.keys: the platform takes only keys of 1 to 32 letters and digits, this one has 33",
        ),
        (
            "[sources.css]\ntoken_env = \"$CSS_TOKEN?\"",
            ":2:1",
            "sources.css.token_env: is not the name of a variable",
        ),
        (
            "[server]\npublic_url = \"https://$HOST\"\n[sources.css]\nkeys = [\"a\"]",
            ":2:1",
            "server.public_url: still holds a placeholder such as",
        ),
        (
            "[sources.css]\ntoken = 1e5",
            ":2:1",
            "sources.css.token: expected a text in quotes, found a number",
        ),
        (
            "[sources.css]\ntoken_env = \"UNSET\"",
            ":2:1",
            "sources.css.token_env: the environment variable `UNSET` is not set",
        ),
        (
            "[sources.css]\nkeys_env = \"UNSET\"",
            ":2:1",
            "sources.css.keys_env: the environment variable `UNSET` is not set",
        ),
        (
            "[sources.css]\ntoken = \"a\"\ntoken_env = \"B\"",
            ":1:10",
            "sources.css: give only one of `token`, `token_file` and `token_env`",
        ),
        (
            "[sources.css]\ntoken_file = \"nowhere\"",
            ":2:1",
            "sources.css.token_file: cannot read /base/nowhere: No such file or directory (os error 2); put the token \
             into this file, or correct the path",
        ),
        (
            "[sources.css]\nkey_file = \"nowhere\"",
            ":2:1",
            "sources.css.key_file: cannot read /base/nowhere: No such file or directory (os error 2); put the template's \
             CallbackKey into this file, or correct the path",
        ),
        (
            "[sources.css]\nexpiry_grace = 10",
            ":2:1",
            "sources.css.expiry_grace: `10` is not a duration, write one such as \"10s\"",
        ),
        (
            "[sources.css]\nallow_unsigned = \"all\"",
            ":2:1",
            "expected `true` or a list of kinds, found a text; write allow_unsigned = [\"\u{2026}\"]",
        ),
        (
            "[sources.css]\nallow_unsigned = [\"relais\"]",
            ":2:1",
            "sources.css.allow_unsigned: unknown kind `relais`, did you mean `relay`?",
        ),
        (
            "[sources.css]\nallow_from = [\"here\"]",
            ":2:1",
            "sources.css.allow_from: `here` is no network",
        ),
        (
            "[sources.healthz]\nkeys = [\"a\"]",
            ":1:10",
            "sources.healthz: livehook itself uses the name `healthz`",
        ),
        (
            "[sources.unknown]\nkeys = [\"a\"]",
            ":1:10",
            "sources.unknown: livehook itself uses the name `unknown`",
        ),
        (
            "[sources.Css]\nkeys = [\"a\"]",
            ":1:10",
            "sources.Css: a name is 1 to 32 lower-case letters",
        ),
        (
            "[sources.\"a.b\"]\nkeyz = 1",
            ":1:2",
            "unknown option `sources.\"a.b\".keyz`, did you mean `keys`?",
        ),
    ];
    for (text, place, expected) in cases {
        let message = read(text, &[]).unwrap_err();
        let begin = format!("/base/livehook.toml{place}: ");
        assert!(
            message.starts_with(&begin) && message.contains(expected),
            "{text}: {message}"
        );
        assert_eq!(message.lines().count(), 1, "{message}");
        assert!(!message.contains("secret"), "{message}");
    }
}

#[test]
fn a_bad_section_gives_one_message_with_place_and_fix() {
    let cases = [
        (
            "[server]\nlisten = \"8080\"",
            ":4:1",
            "server.listen: `8080` is not an address, write one such as",
        ),
        (
            "[server]\nlisten = 8080",
            ":4:1",
            "server.listen: expected a text in quotes, found a number",
        ),
        (
            "[server]\nlisten = { port = 1 }",
            ":4:1",
            "server.listen: expected a text in quotes, found a table",
        ),
        (
            "[server]\nlisten.port = 1",
            ":4:1",
            "server.listen: expected a text in quotes, found a table",
        ),
        (
            "[server.tls]\ncert = \"x\"",
            ":3:9",
            "unknown option `server.tls`; known: `listen`, `public_url`, ",
        ),
        (
            "[server]\nmax_connections = -1",
            ":4:1",
            "server.max_connections: `-1` is not a whole number from 0 up",
        ),
        (
            "[server]\nmax_connections = 1.5",
            ":4:1",
            "server.max_connections: expected a whole number from 0 up, found a number",
        ),
        (
            "[server]\nmax_connections = true",
            ":4:1",
            "server.max_connections: expected a whole number from 0 up, found `true` or `false`",
        ),
        (
            "[server]\nmax_connections = \"7\"",
            ":4:1",
            "server.max_connections: expected a whole number from 0 up, found a text",
        ),
        (
            "[server]\nmax_connections = 0",
            ":4:1",
            "server.max_connections: must be from 1",
        ),
        (
            "[server]\nmax_body = \"1 Mebi\"",
            ":4:1",
            "server.max_body: `1 Mebi` is not a size, write one such as",
        ),
        (
            "[server]\nmax_body = \"1B\"",
            ":4:1",
            "server.max_body: must be from 1KiB",
        ),
        (
            "[server]\nmax_body = \"32MiB\"",
            ":3:2",
            "server.max_inflight: must be at least `max_body`",
        ),
        (
            "[server]\ndeadline = \"20s\"",
            ":4:1",
            "server.deadline: must be more than 0s and less than 20s",
        ),
        (
            "[server]\ndeadline = true",
            ":4:1",
            "server.deadline: expected a text with a unit",
        ),
        (
            "[server]\ndrain_delay = \"9s\"",
            ":4:1",
            "server.drain_delay: must be at most 8s: the whole shutdown",
        ),
        (
            "[server]\nheader_timeout = \"0s\"",
            ":4:1",
            "server.header_timeout: must be more than 0s",
        ),
        (
            "[server]\nidle_timeout = \"25h\"",
            ":4:1",
            "server.idle_timeout: must be more than 0s and at most 24h",
        ),
        (
            "[server]\nwrite_timeout = \"0s\"",
            ":4:1",
            "server.write_timeout: must be more than 0s and at most 60s",
        ),
        (
            "[server]\nmax_head = \"1023\"",
            ":4:1",
            "server.max_head: must be from 1KiB to 1MiB",
        ),
        (
            "[server]\npublic_url = \"cb.example.com\"",
            ":4:1",
            "server.public_url: `cb.example.com` is not an address for callbacks",
        ),
        (
            "[server]\ntrusted_proxies = [\"10.0.0.0/33\"]",
            ":4:1",
            "server.trusted_proxies: `10.0.0.0/33` is no network",
        ),
        (
            "[server]\nwatch = 1",
            ":4:1",
            "server.watch: expected true or false, found a number",
        ),
        (
            "[admin]\nlisten = \"0.0.0.0:9090\"",
            ":4:1",
            "admin.listen: `0.0.0.0:9090` can be reached from other machines, which needs a token; set",
        ),
        (
            "[admin]\nlisten = \"127.0.0.1:8080\"",
            ":4:1",
            "admin.listen: `127.0.0.1:8080` is taken by server.listen (`0.0.0.0:8080`), give it another port",
        ),
        (
            "[server]\nlisten = \"[::1]:90\"\n[admin]\nlisten = \"[::1]:90\"",
            ":6:1",
            "admin.listen: `[::1]:90` is taken by server.listen",
        ),
        (
            "[server]\nlisten = \"[::]:90\"\n[admin]\nlisten = \"127.0.0.1:90\"",
            ":6:1",
            "admin.listen: `127.0.0.1:90` is taken by server.listen",
        ),
        ("[admin]\ntoken = \"\"", ":4:1", "admin.token: is empty"),
        (
            "[log]\nlevel = \"loud\"",
            ":4:1",
            "log.level: `loud` is no level",
        ),
        (
            "[log]\nformat = \"jsn\"",
            ":4:1",
            "log.format: unknown value `jsn`, did you mean `json`?",
        ),
        (
            "[log]\nformat = 1",
            ":4:1",
            "log.format: expected a text in quotes, found a number",
        ),
        (
            "[inbox]\nengine = \"mysql\"",
            ":4:1",
            "inbox.engine: unknown value `mysql`; known: `sqlite`, `postgres`",
        ),
        (
            "[inbox]\nengine = \"postgres\"",
            ":3:2",
            "inbox.url: is missing; engine = \"postgres\" needs it, or url_file or url_env",
        ),
        (
            "[inbox]\nengine = \"postgres\"\nurl = \"postgres://a@b\"\nlock_wait = \"10s\"",
            ":6:1",
            "inbox.lock_wait: belongs to engine = \"sqlite\", but the engine is \"postgres\"",
        ),
        (
            "[inbox]\nengine = \"postgres\"\nurl = \"postgres://a@b\"\npath = \"data\"",
            ":6:1",
            "inbox.path: belongs to engine = \"sqlite\", but the engine is \"postgres\"",
        ),
        (
            "[inbox]\nengine = \"postgres\"\nurl = \"postgres://a@b\"\nurl_env = \"X\"",
            ":3:2",
            "inbox: give only one of `url`, `url_file` and `url_env`",
        ),
        (
            "[inbox]\nengine = \"postgres\"\nurl = \"postgres://a@b\"\nconnections = 1",
            ":6:1",
            "inbox.connections: `1` must be 2 to 1000",
        ),
        (
            "[inbox]\nengine = \"postgres\"\nurl = \"host=b\"",
            ":5:1",
            "inbox.url: is not a URL of a PostgreSQL server",
        ),
        (
            "[inbox]\nconnections = 8",
            ":4:1",
            "inbox.connections: belongs to engine = \"postgres\"",
        ),
        (
            "[inbox]\nurl = \"postgres://x\"",
            ":4:1",
            "inbox.url: belongs to engine = \"postgres\"",
        ),
        (
            "[inbox]\nurl_file = \"x\"",
            ":4:1",
            "inbox.url_file: belongs to engine = \"postgres\"",
        ),
        ("[inbox]\npath = \"\"", ":4:1", "inbox.path: is empty"),
        (
            "[inbox]\nretention = \"0s\"",
            ":4:1",
            "inbox.retention: `0s` must be more than nothing",
        ),
        (
            "[inbox]\nparked_retention = \"1000years\"",
            ":4:1",
            "inbox.parked_retention: `",
        ),
        (
            "[inbox]\nmin_free = \"lots\"",
            ":4:1",
            "inbox.min_free: `lots` is not a size",
        ),
        (
            "[inbox]\nsegment_size = \"1KiB\"",
            ":4:1",
            "inbox.segment_size: `1024` bytes must be 1MiB to 1GiB",
        ),
        (
            "[inbox]\ndedupe_window = \"29m\"",
            ":4:1",
            "inbox.dedupe_window: `29m` is less than the longest expiry_grace (`10m`) and 20m",
        ),
    ];
    for (text, place, expected) in cases {
        let message = read(&format!("{LEAST}{text}"), &[]).unwrap_err();
        let begin = format!("/base/livehook.toml{place}: ");
        assert!(
            message.starts_with(&begin) && message.contains(expected),
            "{text}: {message}"
        );
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

#[test]
fn a_bad_handler_gives_one_message_with_place_and_fix() {
    let cases = [
        (
            "concurency = 1",
            ":4:1",
            "unknown option `handlers.archive.concurency`, did you mean `concurrency`?",
        ),
        (
            "tiemout = \"1s\"",
            ":4:1",
            "unknown option `handlers.archive.tiemout`, did you mean `timeout`?",
        ),
        (
            "target = { type = \"log\" }",
            ":4:1",
            "unknown option `handlers.archive.target`; known: `kinds`, ",
        ),
        (
            "concurrency = 0",
            ":4:1",
            "handlers.archive.concurrency: must be from 1 to 1024",
        ),
        (
            "timeout = 10",
            ":4:1",
            "handlers.archive.timeout: `10` is not a duration, write one such as \"10s\"",
        ),
        (
            "timeout = \"0s\"",
            ":4:1",
            "handlers.archive.timeout: `0s` must be more than nothing",
        ),
        (
            "kinds = [\"recrd\"]",
            ":4:1",
            "handlers.archive.kinds: unknown kind `recrd`, did you mean `record`?",
        ),
        (
            "kinds = []",
            ":4:1",
            "handlers.archive.kinds: lists no kind",
        ),
        (
            "kinds = \"record\"",
            ":4:1",
            "handlers.archive.kinds: expected a list, found a text",
        ),
        (
            "sources = [\"cs\"]",
            ":4:1",
            "handlers.archive.sources: there is no source `cs`; known: `css`",
        ),
        (
            "streams = [\"{\"]",
            ":4:1",
            "handlers.archive.streams: error parsing glob",
        ),
        (
            "order = { type = \"none\" }",
            ":4:1",
            "handlers.archive.order: expected a text in quotes, found a table",
        ),
        (
            "order = \"strem\"",
            ":4:1",
            "handlers.archive.order: unknown value `strem`, did you mean `stream`?",
        ),
        (
            "payload = \"type\"",
            ":4:1",
            "handlers.archive.payload: unknown value `type`, did you mean `typed`?",
        ),
        (
            "start = \"new\"",
            ":4:1",
            "handlers.archive.start: unknown value `new`, did you mean `now`?",
        ),
        (
            "retry = { inital = \"1s\" }",
            ":4:11",
            "unknown option `handlers.archive.retry.inital`, did you mean `initial`?",
        ),
        (
            "retry = { max = 1 }",
            ":4:11",
            "handlers.archive.retry.max: `1` is not a duration",
        ),
        (
            "retry = { initial = \"6m\" }",
            ":4:11",
            "handlers.archive.retry.initial: must not be longer than `max`",
        ),
        (
            "retry = { max_age = \"0s\" }",
            ":4:11",
            "handlers.archive.retry.max_age: `0s` must be more",
        ),
        (
            "to = \"log\"",
            ":4:1",
            "handlers.archive.to: expected a table with `type`, found a text",
        ),
        (
            "to = []",
            ":4:1",
            "handlers.archive.to: expected a table with `type`, found a list",
        ),
        ("to = {}", ":4:1", "handlers.archive.to.type: is missing"),
        (
            "to = { type = 5 }",
            ":4:8",
            "handlers.archive.to.type: expected a text in quotes, found a number",
        ),
        (
            "to = { type = \"htp\" }",
            ":4:8",
            "handlers.archive.to.type: unknown value `htp`, did you mean `http`?",
        ),
        (
            "to = { type = \"filee\", path = \"x\" }",
            ":4:8",
            "handlers.archive.to.type: unknown value `filee`, did you mean `file`?",
        ),
        (
            "to = { type = \"kafka\" }",
            ":4:8",
            "handlers.archive.to.type: unknown value `kafka`; known: `log`, `file`, `http`, `exec`",
        ),
        (
            "to = { type = \"log\", path = \"x\" }",
            ":4:22",
            "unknown option `handlers.archive.to.path`, nothing can be set here",
        ),
        (
            "to = { type = \"file\" }",
            ":4:1",
            "handlers.archive.to.path: is missing",
        ),
        (
            "to = { type = \"file\", pth = \"x\" }",
            ":4:23",
            "unknown option `handlers.archive.to.pth`, did you mean `path`?",
        ),
        (
            "to = { type = \"file\", path = 5, sync = true }",
            ":4:23",
            "handlers.archive.to.path: expected a text in quotes, found a number",
        ),
        (
            "to = { type = \"file\", path = \"x\", rotate = \"dayly\" }",
            ":4:35",
            "handlers.archive.to.rotate: unknown value `dayly`, did you mean `daily`?",
        ),
        (
            "to = { type = \"file\", path = \"x\", sync = \"no\" }",
            ":4:35",
            "handlers.archive.to.sync: expected true or false, found a text",
        ),
        (
            "to = { type = \"exec\", command = \"ls -l\" }",
            ":4:23",
            "livehook.toml:4:23: handlers.archive.to.command: expected a list, found a text; write command = [\"\u{2026}\"]",
        ),
        (
            "to = { type = \"http\", url = \"http://x\", secret = 123 }",
            ":4:41",
            "handlers.archive.to.secret: expected a text in quotes, found a number",
        ),
        (
            "to = { type = \"http\", url = \"http://x\", headers = { X-Team = 5 } }",
            ":4:53",
            "handlers.archive.to.headers.X-Team: expected a text in quotes, found a number",
        ),
        (
            "to = { type = \"http\", url = \"http://{{ host }}/\" }",
            ":4:23",
            "handlers.archive.to.url: still holds a placeholder such as",
        ),
        (
            "to = { type = \"http\", url = \"http://x\", headers = { X-Team = \"Bearer $TOKEN\" } }",
            ":4:41",
            "handlers.archive.to.headers: `X-Team` still holds a placeholder such as",
        ),
        (
            "to = { type = \"http\", url = \"http://x\", secret = \"\" }",
            ":4:41",
            "handlers.archive.to.secret: is empty",
        ),
    ];
    for (text, place, expected) in cases {
        let message = read(&format!("{LEAST}[handlers.archive]\n{text}"), &[]).unwrap_err();
        let begin = format!("/base/livehook.toml{place}: ");
        assert!(
            message.starts_with(&begin) && message.contains(expected),
            "{text}: {message}"
        );
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    let message = read(&format!("{LEAST}[handlers.a_b]"), &[]).unwrap_err();
    assert!(
        message.contains("livehook.toml:3:11: handlers.a_b: a name is"),
        "{message}"
    );
}
