//! Helpers with which each section of the configuration is read: errors, secrets, files, units.
//!
//! A section is read in two steps. Serde fills its config type, then a pure `validate` turns that
//! into a value that the module can use. Errors are an [`Invalid`], which names the place and the
//! fix.

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
pub(crate) mod key_error;
mod placeholder;
pub(crate) mod strict;

pub(crate) use self::placeholder::{check_no_placeholder, trimmed};

/// Why a configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub(crate) struct Invalid {
    /// The dotted key, such as `sources.css.key_file`.
    pub place: String,
    /// What is wrong and how to correct it.
    pub problem: String,
}

impl Invalid {
    pub(crate) fn at(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            problem: problem.into(),
        }
    }
}

/// The context of a configuration: things it refers to.
#[derive(Clone, Copy)]
pub(crate) struct Env<'a> {
    /// The directory of the configuration file. Relative paths start here.
    pub base: &'a Path,
    /// Reads an environment variable.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
}

impl Env<'_> {
    /// Resolves a path of the configuration.
    pub(crate) fn path(&self, path: &Path) -> PathBuf {
        self.base.join(path)
    }
}

/// The three ways to give one secret. At most one may be used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SecretFields<'a> {
    /// The option's name, such as `token`. The other two options add `_file` and `_env` to it.
    pub name: &'a str,
    pub text: Option<&'a str>,
    /// A file that contains the secret.
    pub file: Option<&'a Path>,
    /// The name of a variable that contains the secret. If the name ends in `?`, the variable may
    /// be unset.
    pub variable: Option<&'a str>,
}

impl SecretFields<'_> {
    /// The secret, if it is given.
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
            let text = read_file(&place, file, &format!("the {name}"), env)?;
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

/// Reads the text of a file that an option names. `content` says what belongs into it.
pub(crate) fn read_file(
    place: &str,
    file: &Path,
    content: &str,
    env: &Env,
) -> Result<String, Invalid> {
    let path = env.path(file);
    read_text(&path).map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::NotFound => {
                format!("; put {content} into this file, or correct the path")
            }
            _ => String::new(),
        };
        let path = path.display();
        Invalid::at(place, format!("cannot read {path}: {error}{advice}"))
    })
}

/// Reads the text of a file, [within a time limit](read_in_time).
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read_in_time(path)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not valid UTF-8"))
}

/// The longest time to read one file of the configuration.
const READ_WITHIN: Duration = Duration::from_secs(5);

/// The most bytes of one file of the configuration.
const MAX_FILE: u64 = 16 << 20;

/// Reads a file within five seconds and up to 16 MiB. A pipe without a writer, a file system that
/// hangs, or a file without an end must not block a start or a reload, or use up the memory.
pub(crate) fn read_in_time(path: &Path) -> io::Result<Vec<u8>> {
    /// Files whose reading hangs. Each holds one thread, and another attempt starts no further
    /// thread.
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
        // The read may have ended just now. If not, its thread removes the path once this lock is
        // free.
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

/// Reads a variable. Returns none if it is unset and `name` ends in `?`.
pub(crate) fn read_variable(place: &str, name: &str, env: &Env) -> Result<Option<String>, Invalid> {
    let (name, optional) = match name.strip_suffix('?') {
        Some(name) => (name, true),
        None => (name, false),
    };
    if name.is_empty() || check_no_placeholder(name).is_err() {
        let problem = "is not the name of a variable, write one such as \"CSS_KEY\"";
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

/// Checks the name of a source or a handler: `[a-z][a-z0-9-]{0,31}`.
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

/// The value of an option with a unit. A number is accepted here, so that the message can say that
/// the unit is missing.
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

/// The longest duration of an option. Longer ones are mistakes, and could overflow when they are
/// added to a time.
pub(crate) const MAX_DURATION: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Refuses zero, and more than [`MAX_DURATION`].
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
            "`{text}` is not a duration, write one such as \"10s\", \"30m\" or \"7d\""
        ))
    })
}

/// Like [`duration`], for an option that may be missing.
pub(crate) fn optional_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

/// Reads a size in bytes, such as `1MiB`.
pub(crate) fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = TextOrNumber::deserialize(deserializer)?.text();
    text.parse::<bytesize::ByteSize>()
        .map(|size| size.as_u64())
        .map_err(|_| {
            serde::de::Error::custom(format_args!(
                "`{text}` is not a size, write one such as \"512KiB\" or \"1MiB\""
            ))
        })
}

/// Like [`size`], for an option that may be missing.
pub(crate) fn optional_size<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<u64>, D::Error> {
    size(deserializer).map(Some)
}

/// Reads an address with a port.
pub(crate) fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        serde::de::Error::custom(format_args!(
            "`{text}` is not an address, write one such as \"0.0.0.0:8080\" or \"[::]:8080\""
        ))
    })
}

/// Reads a list of networks in CIDR form. An address alone is a network of one address.
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
