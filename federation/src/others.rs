//! The other servers, as the crates below see them.

mod directory;
mod peers;
mod profiles;
mod residents;

use hearth_rooms::peers::RemoteError;
use moka::future::Cache;
use ruma::{OwnedRoomId, OwnedServerName};
use std::time::Duration;
use tokio_util::task::TaskTracker;

use self::directory::Answer;
use crate::{
    client::{Client, RequestError},
    keys::Keys,
};

/// How many spaces are remembered of which others told us, and how long.
const CACHED_SPACES: u64 = 2_000;
const SPACE_LIFETIME: Duration = Duration::from_mins(5);

/// Asks other servers what rooms and their directory want to know.
#[derive(Clone, Debug)]
pub struct Others {
    client: Client,
    keys: Keys,
    tasks: TaskTracker,
    spaces: Cache<(OwnedRoomId, Vec<OwnedServerName>, bool), Answer>,
}

impl Others {
    /// Asks through `client`.
    #[must_use]
    pub fn new(client: Client, keys: Keys, tasks: TaskTracker) -> Self {
        Self {
            client,
            keys,
            tasks,
            spaces: Cache::builder()
                .max_capacity(CACHED_SPACES)
                .time_to_live(SPACE_LIFETIME)
                .build(),
        }
    }
}

/// What those below are told of a failure.
fn remote(error: &RequestError) -> RemoteError {
    tracing::debug!("another server does not help: {error}");
    if error.is_refusal() {
        RemoteError::Refused
    } else {
        RemoteError::Unreachable
    }
}
