//! The limit of open files.

use super::ADMIN_CONNECTIONS;
use crate::listener::SPARE;

/// Descriptors for everything but the connections of the callback listener: files, the store,
/// handlers, the admin listener.
const OTHER_DESCRIPTORS: u64 = 256 + (ADMIN_CONNECTIONS + 2 * SPARE) as u64;

/// The number of connections, at most `wanted`, for which the system has descriptors. If there are
/// few, half of them is for everything else.
pub(super) fn possible_connections(wanted: usize) -> usize {
    let Some(limit) = raise_descriptor_limit() else {
        return wanted;
    };
    let possible = limit - OTHER_DESCRIPTORS.min(limit / 2);
    let possible = usize::try_from(possible).unwrap_or(usize::MAX);
    if possible >= wanted {
        return wanted;
    }
    tracing::warn!(
        limit,
        server.max_connections = wanted,
        possible,
        "the limit of open files is lower than what max_connections needs: fewer connections are accepted"
    );
    possible
}

/// Raises the limit of open files as far as the system permits. Returns it, or none if there is no
/// limit. Each connection is an open file, and the usual soft limit is 1024.
pub(crate) fn raise_descriptor_limit() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
    if raised.is_ok() {
        limit.maximum
    } else {
        limit.current
    }
}
