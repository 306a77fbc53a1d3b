//! Checks whether files, directories and programs can be used, without changing anything.

use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail};
use rustix::fs::Access;

/// Refuses a directory if livehook can neither write to it nor create it.
pub(crate) fn check_directory(directory: &Path) -> anyhow::Result<()> {
    let Some(nearest) = directory.ancestors().find(|path| path.exists()) else {
        bail!("no part of {} exists", directory.display());
    };
    if !nearest.is_dir() {
        bail!("{} is no directory", nearest.display());
    }
    rustix::fs::access(nearest, Access::WRITE_OK | Access::EXEC_OK)
        .with_context(|| format!("cannot write to {}", nearest.display()))
}

/// Refuses an existing file if livehook cannot read and write it.
pub(crate) fn check_file(file: &Path) -> anyhow::Result<()> {
    if file.is_dir() {
        bail!("{} is a directory", file.display());
    }
    if !file.exists() {
        return Ok(());
    }
    rustix::fs::access(file, Access::READ_OK | Access::WRITE_OK)
        .with_context(|| format!("cannot read and write {}", file.display()))
}

/// Whether both paths lead to the same file, with links resolved. The file need not exist; it is
/// not opened.
pub(crate) fn is_same_file(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| {
        let found = std::fs::metadata(path).ok()?;
        Some((found.dev(), found.ino()))
    };
    match (identity(one), identity(other)) {
        (None, None) => resolved(one) == resolved(other),
        (one, other) => one == other,
    }
}

/// The path without links and `..`, as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    let mut resolved = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(resolved.pop()),
            part => resolved.push(part),
        }
        resolved = resolved.canonicalize().unwrap_or(resolved);
    }
    resolved
}

/// Refuses a program that does not exist or that livehook may not run. A program without a slash is
/// searched in `path`, the value of `PATH`.
pub(crate) fn check_program(program: &Path, path: &std::ffi::OsStr) -> anyhow::Result<()> {
    if program.as_os_str().as_encoded_bytes().contains(&b'/') {
        return check_runnable(program);
    }
    let found: Vec<PathBuf> = std::env::split_paths(path)
        .map(|folder| folder.join(program))
        .filter(|file| file.is_file())
        .collect();
    match found
        .iter()
        .map(|file| check_runnable(file))
        .find(Result::is_ok)
    {
        Some(_) => Ok(()),
        None if found.is_empty() => bail!("there is no {} in PATH", program.display()),
        None => found.iter().try_for_each(|file| check_runnable(file)),
    }
}

fn check_runnable(file: &Path) -> anyhow::Result<()> {
    let shown = file.display();
    let metadata = std::fs::metadata(file).with_context(|| format!("cannot find {shown}"))?;
    if !metadata.is_file() {
        bail!("{shown} is no file");
    }
    rustix::fs::access(file, Access::EXEC_OK).with_context(|| format!("cannot run {shown}"))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_file_is_known_by_every_name() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("data")).unwrap();
        symlink(at("data"), at("link")).unwrap();
        for name in ["data/a", "link/a", "new/../data/a", "link/../data/a"] {
            assert!(is_same_file(&at(name), &at("data/a")), "{name}");
        }
        assert!(!is_same_file(&at("data/b"), &at("data/a")));
        fs::write(at("data/a"), "").unwrap();
        assert!(!is_same_file(&at("data/b"), &at("data/a")));
        fs::hard_link(at("data/a"), at("hard")).unwrap();
        symlink(at("hard"), at("soft")).unwrap();
        for name in ["link/a", "hard", "soft"] {
            assert!(is_same_file(&at(name), &at("data/a")), "{name}");
        }
    }

    #[test]
    fn a_program_is_looked_for_as_the_system_does() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (name, mode) in [("plain", 0o644), ("good", 0o755)] {
            fs::write(at(name), "#!/bin/sh\n").unwrap();
            fs::set_permissions(at(name), Permissions::from_mode(mode)).unwrap();
        }
        fs::create_dir(at("folder")).unwrap();
        let path = format!("/nowhere:{}", folder.path().display());
        let check = |program: &Path| {
            let checked = check_program(program, OsStr::new(&path));
            checked.map_err(|error| format!("{error:#}"))
        };
        assert_eq!(check(Path::new("good")), Ok(()));
        assert_eq!(check(&at("good")), Ok(()));
        for (program, expected) in [
            (Path::new("gone").to_owned(), "there is no gone in PATH"),
            (Path::new("folder").to_owned(), "there is no folder in PATH"),
            (Path::new("plain").to_owned(), "cannot run "),
            (at("gone"), "cannot find "),
            (at("folder"), "is no file"),
            (at("plain"), "cannot run "),
            (at("good/below"), "cannot find "),
        ] {
            let message = check(&program).unwrap_err();
            assert!(message.contains(expected), "{message}");
        }
    }
}
