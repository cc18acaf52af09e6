//! The two servers that all cases share, since starting them takes longer than most cases do.

use std::{path::Path, sync::Arc};

use super::{
    certificates::Authority,
    homeserver::{Database, Homeserver, Kind},
    scene::Scene,
};

/// Both servers.
pub(crate) struct Stage {
    first: Arc<Homeserver>,
    second: Arc<Homeserver>,
}

/// Which of the servers is the host.
#[derive(Clone, Copy)]
pub(crate) enum Host {
    First,
    Second,
}

impl Stage {
    /// Makes the servers. They have different hosts, since access lists of servers ignore ports.
    pub(crate) async fn set([first, second]: [Kind; 2]) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("interop");
        std::fs::create_dir_all(&folder).unwrap();
        let authority = Authority::new(&folder);
        let (one, other) = (folder.join("first"), folder.join("second"));
        let (first, second) = tokio::join!(
            Homeserver::new((first, Database::Quick), "localhost", &one, &authority),
            Homeserver::new((second, Database::Quick), "127.0.0.1", &other, &authority),
        );
        Self {
            first: Arc::new(first),
            second: Arc::new(second),
        }
    }

    /// The servers as a case sees them.
    pub(crate) fn scene(&self, host: Host) -> Scene {
        let (host, guest) = match host {
            Host::First => (&self.first, &self.second),
            Host::Second => (&self.second, &self.first),
        };
        Scene {
            host: Arc::clone(host),
            guest: Arc::clone(guest),
        }
    }
}
