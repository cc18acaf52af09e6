//! How long it takes to join a large room of a Synapse: a Hearth, and another Synapse.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use libtest_mimic::{Failed, Measurement};
use tokio::runtime::Runtime;

use super::{
    certificates::Authority,
    homeserver::{Database, Homeserver, Kind},
    user::User,
};

/// How many members the room has when `INTEROP_MEMBERS` does not say otherwise.
const MEMBERS: usize = 2_000;

/// How many members come in at the same time, before anything is measured.
const AT_ONCE: usize = 8;

/// How long all members may take to be known.
const PATIENCE: Duration = Duration::from_secs(600);

/// Measures both and says on the output what came out; the measurement is Hearth's.
pub(crate) fn measure(_: bool) -> Result<Option<Measurement>, Failed> {
    let members = match std::env::var("INTEROP_MEMBERS") {
        Ok(members) => members.parse()?,
        Err(_) => MEMBERS,
    };
    let joined = Runtime::new()?.block_on(joins(members));
    Ok(Some(Measurement {
        avg: u64::try_from(joined.as_nanos())?,
        variance: 0,
    }))
}

/// Lets a Hearth and then a Synapse join a room, and gives the time of the Hearth.
///
/// Hearth comes first, which is to its disadvantage: the room's server has made the answer once
/// when the second asks.
async fn joins(members: usize) -> Duration {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("interop");
    std::fs::create_dir_all(&folder).unwrap();
    let authority = Authority::new(&folder);
    let server = async |kind, name: &str, host| {
        let setup = (kind, Database::PostgreSql);
        Arc::new(Homeserver::new(setup, host, &folder.join(name), &authority).await)
    };
    let host = server(Kind::Synapse, "host", "127.0.0.1").await;
    let hearth = server(Kind::Hearth, "hearth", "localhost").await;
    let synapse = server(Kind::Synapse, "synapse", "localhost").await;

    let started = Instant::now();
    let room = room_of(members, &host).await;
    println!(
        "a room of {members} members, made in {:.1?}",
        started.elapsed()
    );
    let joined = join(&room, members + 1, &hearth, &host).await;
    join(&room, members + 2, &synapse, &host).await;
    joined
}

/// Makes a room with so many members, all on its server.
async fn room_of(members: usize, host: &Arc<Homeserver>) -> String {
    let owner = User::register(host, "owner").await;
    let room = owner.create_public().await;
    stream::iter(1..members)
        .for_each_concurrent(AT_ONCE, async |_| {
            User::register(host, "member").await.join(&room, host).await;
        })
        .await;
    room
}

/// A user of a server that does not know the room joins it. Gives the time until the answer, and
/// says also when all members were known, since the answer may come before that.
async fn join(room: &str, members: usize, server: &Arc<Homeserver>, host: &Homeserver) -> Duration {
    let user = User::register(server, "guest").await;
    let started = Instant::now();
    user.join(room, host).await;
    let joined = started.elapsed();
    loop {
        let path = ["v3", "rooms", room, "joined_members"];
        let known = user.get(&path).ok().await;
        if known["joined"].as_object().expect("it is a map").len() == members {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "the members never come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!(
        "{} joined in {joined:.2?} and knew all {members} members after {:.2?}",
        server.kind,
        started.elapsed()
    );
    joined
}
