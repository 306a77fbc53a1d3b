//! What every section of the configuration needs to read its own part: where it stands, units, secrets.
//!
//! Reading a section is two steps: serde fills its config type, and a pure `validate` turns that into a value that the module
//! can use. What can be wrong becomes an [`Invalid`], which names the place and the fix.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

use css_callbacks::Secret;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer};

pub(crate) mod access;
mod placeholder;

pub(crate) use self::placeholder::{check_no_placeholder, trimmed};

/// A configuration that cannot be used: where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub(crate) struct Invalid {
    /// The dotted key, such as `sources.css.key_file`.
    pub place: String,
    /// What is wrong and how to mend it.
    pub problem: String,
}

impl Invalid {
    /// A problem at a place.
    pub(crate) fn at(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            problem: problem.into(),
        }
    }
}

/// What a configuration refers to beyond its own text.
#[derive(Clone, Copy)]
pub(crate) struct Env<'a> {
    /// The folder that relative paths start from: the configuration file's.
    pub base: &'a Path,
    /// Looks an environment variable up.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
}

impl Env<'_> {
    /// The path as seen from the configuration file.
    pub(crate) fn path(&self, path: &Path) -> PathBuf {
        self.base.join(path)
    }
}

/// The three ways to give one secret, of which at most one may be used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SecretFields<'a> {
    /// The option's name in the file, such as `token`; the other two are this and `_file`, `_env`.
    pub name: &'a str,
    /// The text itself.
    pub text: Option<&'a str>,
    /// A file that holds it.
    pub file: Option<&'a Path>,
    /// The name of a variable that holds it. With a `?` behind the name, an unset variable means none.
    pub variable: Option<&'a str>,
}

impl SecretFields<'_> {
    /// The secret, if one is given.
    pub(crate) fn resolve(&self, place: &str, env: &Env) -> Result<Option<Secret>, Invalid> {
        let name = self.name;
        let given = [
            self.text.is_some(),
            self.file.is_some(),
            self.variable.is_some(),
        ];
        if given.iter().filter(|given| **given).count() > 1 {
            let problem = format!("give only one of `{name}`, `{name}_file` and `{name}_env`");
            return Err(Invalid::at(place, problem));
        }
        if let Some(text) = self.text {
            return checked(text, format!("{place}.{name}")).map(Some);
        }
        if let Some(file) = self.file {
            let place = format!("{place}.{name}_file");
            let text = read_file(&place, file, env)?;
            return checked(trimmed(&text), place).map(Some);
        }
        if let Some(variable) = self.variable {
            let place = format!("{place}.{name}_env");
            return match read_variable(&place, variable, env)? {
                Some(text) => checked(trimmed(&text), place).map(Some),
                None => Ok(None),
            };
        }
        Ok(None)
    }
}

/// The text of a secret's file.
pub(crate) fn read_file(place: &str, file: &Path, env: &Env) -> Result<String, Invalid> {
    let path = env.path(file);
    read_text(&path)
        .map_err(|error| Invalid::at(place, format!("cannot read {}: {error}", path.display())))
}

/// The text of a file, read [in time](read_in_time).
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read_in_time(path)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not valid UTF-8"))
}

/// Reading one file of the configuration takes no longer.
const READ_WITHIN: Duration = Duration::from_secs(5);

/// No file of the configuration is longer.
const MAX_FILE: u64 = 16 << 20;

/// Reads a file, and gives up after five seconds: a pipe that nobody writes to, or a file system that hangs, must not hold a
/// start or a reload up for ever. Nor must one that has no end take all the memory, so no more than 16 MiB is read.
pub(crate) fn read_in_time(path: &Path) -> io::Result<Vec<u8>> {
    /// The files whose reading still hangs: each costs one thread, however often it is tried.
    static HANGING: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let hanging = || HANGING.lock().unwrap_or_else(PoisonError::into_inner);
    let hangs = || {
        let problem = format!("nothing came from it for {READ_WITHIN:?}");
        io::Error::new(io::ErrorKind::TimedOut, problem)
    };
    if hanging().contains(path) {
        return Err(hangs());
    }
    let (sender, read) = mpsc::channel();
    let own = path.to_owned();
    let reader = std::thread::Builder::new().name("read-file".to_owned());
    reader.spawn(move || {
        let _ = sender.send(read_whole(&own));
        hanging().remove(&own);
    })?;
    read.recv_timeout(READ_WITHIN).unwrap_or_else(|_| {
        let mut hanging = hanging();
        // It may have ended just now; from here on the thread waits to take itself off the list.
        read.try_recv().unwrap_or_else(|_| {
            hanging.insert(path.to_owned());
            Err(hangs())
        })
    })
}

fn read_whole(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_FILE + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        let problem = "it is longer than 16 MiB";
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
    }
    Ok(bytes)
}

/// The text of a named variable; none if it is unset and its name ends in `?`.
pub(crate) fn read_variable(place: &str, name: &str, env: &Env) -> Result<Option<String>, Invalid> {
    let (name, optional) = match name.strip_suffix('?') {
        Some(name) => (name, true),
        None => (name, false),
    };
    if name.is_empty() || check_no_placeholder(name).is_err() {
        let problem = "is no name of a variable, write one such as \"CSS_KEY\"";
        return Err(Invalid::at(place, problem));
    }
    match (env.variable)(name) {
        None if !optional => Err(Invalid::at(
            place,
            format!("the environment variable `{name}` is not set"),
        )),
        found => Ok(found),
    }
}

/// A secret that is neither empty nor a placeholder.
pub(crate) fn checked(text: &str, place: String) -> Result<Secret, Invalid> {
    if trimmed(text).is_empty() {
        let problem = "is empty; set it or leave the option out";
        return Err(Invalid::at(place, problem));
    }
    match placeholder::check_secret(text) {
        Ok(()) => Ok(Secret::new(text)),
        Err(problem) => Err(Invalid::at(place, problem)),
    }
}

/// Names of sources and handlers: `[a-z][a-z0-9-]{0,31}`.
pub(crate) fn check_name(place: &str, name: &str) -> Result<(), Invalid> {
    let rest_fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.len() <= 32
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(rest_fits)
    {
        return Ok(());
    }
    let problem =
        "a name is 1 to 32 lower-case letters, digits and hyphens and begins with a letter";
    Err(Invalid::at(place, problem))
}

/// What stands where a unit is expected. A bare number is taken along, so that the message can say what is missing.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected a text with a unit, such as \"10s\" or \"1MiB\""
)]
enum TextOrNumber {
    Text(String),
    Number(i64),
}

impl TextOrNumber {
    fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
        }
    }
}

/// The longest duration that an option takes: longer ones are slips, and adding them to a time could overflow.
pub(crate) const MAX_DURATION: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A duration that is not zero and not absurd.
pub(crate) fn check_duration(place: impl Into<String>, value: Duration) -> Result<(), Invalid> {
    if !value.is_zero() && value <= MAX_DURATION {
        return Ok(());
    }
    let problem = format!(
        "`{}` must be more than nothing and at most ten years",
        humantime::format_duration(value)
    );
    Err(Invalid::at(place, problem))
}

/// Reads a duration such as `30m` or `1h 30m`.
pub(crate) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = TextOrNumber::deserialize(deserializer)?.text();
    humantime::parse_duration(&text).map_err(|_| {
        serde::de::Error::custom(format_args!(
            "`{text}` is no duration, write one such as \"10s\", \"30m\" or \"7d\""
        ))
    })
}

/// As [`duration`], where none is a choice too.
pub(crate) fn optional_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

/// Reads a size in bytes such as `1MiB`.
pub(crate) fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = TextOrNumber::deserialize(deserializer)?.text();
    text.parse::<bytesize::ByteSize>()
        .map(|size| size.as_u64())
        .map_err(|_| {
            serde::de::Error::custom(format_args!(
                "`{text}` is no size, write one such as \"512KiB\" or \"1MiB\""
            ))
        })
}

/// As [`size`], where none is a choice too.
pub(crate) fn optional_size<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<u64>, D::Error> {
    size(deserializer).map(Some)
}

/// Reads an address to listen at.
pub(crate) fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        serde::de::Error::custom(format_args!(
            "`{text}` is no address, write one such as \"0.0.0.0:8080\" or \"[::]:8080\""
        ))
    })
}

/// Reads a list of networks in CIDR form; a bare address is a network of one.
pub(crate) fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let network = |text: &String| {
        let single = || text.parse::<IpAddr>().map(IpNet::from);
        text.parse::<IpNet>().or_else(|_| single()).map_err(|_| {
            serde::de::Error::custom(format_args!(
                "`{text}` is no network, write one such as \"10.0.0.0/8\""
            ))
        })
    };
    texts.iter().map(network).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(fields: SecretFields) -> Result<Option<Secret>, Invalid> {
        let variable = |name: &str| match name {
            "SET" => Some(" 0123456\n".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        fields.resolve(
            "sources.css",
            &Env {
                base: Path::new("/nowhere"),
                variable: &variable,
            },
        )
    }

    const NONE: SecretFields = SecretFields {
        name: "token",
        text: None,
        file: None,
        variable: None,
    };

    #[test]
    fn a_secret_comes_from_one_place_and_keeps_its_zeros() {
        assert_eq!(resolve(NONE), Ok(None));
        let found = resolve(SecretFields {
            variable: Some("SET"),
            ..NONE
        });
        assert_eq!(found.unwrap().unwrap().reveal(), "0123456");
        assert_eq!(
            resolve(SecretFields {
                variable: Some("UNSET?"),
                ..NONE
            }),
            Ok(None)
        );
    }

    #[test]
    fn what_is_no_secret_is_refused_by_name() {
        for (fields, expected) in [
            (
                SecretFields {
                    text: Some(""),
                    ..NONE
                },
                "sources.css.token: is empty",
            ),
            (
                SecretFields {
                    text: Some("replace-me"),
                    ..NONE
                },
                "still is the placeholder",
            ),
            (
                SecretFields {
                    variable: Some("UNSET"),
                    ..NONE
                },
                "`UNSET` is not set",
            ),
            (
                SecretFields {
                    variable: Some("EMPTY?"),
                    ..NONE
                },
                "is empty",
            ),
            (
                SecretFields {
                    text: Some("a"),
                    variable: Some("SET"),
                    ..NONE
                },
                "give only one of",
            ),
            (
                SecretFields {
                    file: Some(Path::new("token")),
                    ..NONE
                },
                "cannot read /nowhere/token",
            ),
        ] {
            let message = resolve(fields).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn a_file_is_read_to_16_mib_and_no_further() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(MAX_FILE).unwrap();
        let read = read_in_time(file.path()).unwrap();
        assert_eq!(read.len() as u64, MAX_FILE);
        file.as_file().set_len(MAX_FILE + 1).unwrap();
        for endless in [file.path(), Path::new("/dev/zero")] {
            let error = read_in_time(endless).unwrap_err();
            assert_eq!(error.to_string(), "it is longer than 16 MiB");
        }
    }

    #[test]
    fn names_are_short_lower_case_words() {
        for good in ["css", "a", "room-7", &"a".repeat(32)] {
            assert_eq!(check_name("x", good), Ok(()), "{good}");
        }
        for bad in ["", "7a", "-a", "A", "a_b", "a.b", &"a".repeat(33)] {
            assert!(check_name("x", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn debugging_shows_no_secret() {
        assert_eq!(format!("{:?}", Secret::new("hush")), "[secret]");
    }
}
