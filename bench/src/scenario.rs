//! The scenarios: each sets up what it needs, loads the server and says what it found out.

mod delivery;
mod idle;
mod joins;
mod messages;
mod send;
mod sync;

use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use crate::{
    database,
    error::BenchError,
    measure::Outcome,
    process::{Watch, Watched},
    stage::Stage,
};

/// What can be measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Scenario {
    /// Senders that nobody hears, each in its own room and then all in one.
    Send,
    /// From the send of one user to the sync of another.
    Latency,
    /// Many rooms, one message at a time in each until its last member has it.
    Fanout,
    /// One busy room with many members.
    HotRoom,
    /// The first sync of a user in many rooms.
    InitialSync,
    /// Syncs that find little or nothing.
    IncrementalSync,
    /// Reading a long history backwards.
    Messages,
    /// Many users joining one room.
    JoinStorm,
    /// Members of a large room leaving and joining again.
    Churn,
    /// Long polls to which nothing happens.
    Idle,
}

/// How much of everything there is.
#[derive(Args, Clone, Debug)]
pub(crate) struct Sizes {
    /// How long a scenario loads the server, in seconds.
    #[arg(long, default_value_t = 10)]
    pub(crate) seconds: u32,
    /// The most operations of a scenario.
    #[arg(long, default_value_t = 200_000)]
    pub(crate) operations: u32,
    /// Senders in `send`, `latency` and `hot-room`, rooms in `fanout`.
    #[arg(long, default_value_t = 20)]
    pub(crate) senders: usize,
    /// Members of each room in `fanout`.
    #[arg(long, default_value_t = 20)]
    pub(crate) members: usize,
    /// Members of the room in `hot-room`; one run for each number.
    #[arg(long, value_delimiter = ',', default_value = "100,500")]
    pub(crate) hot_members: Vec<usize>,
    /// Rooms in `initial-sync`; one run for each number.
    #[arg(long, value_delimiter = ',', default_value = "200,2000")]
    pub(crate) initial_rooms: Vec<usize>,
    /// Users in `incremental-sync`.
    #[arg(long, default_value_t = 100)]
    pub(crate) idle_users: usize,
    /// Messages in the history that `messages` reads.
    #[arg(long, default_value_t = 2000)]
    pub(crate) history: u32,
    /// Users that join in `join-storm`, members of the room in `churn`.
    #[arg(long, default_value_t = 1000)]
    pub(crate) joins: usize,
    /// Membership changes in `churn`.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) changes: u32,
    /// Long polls in `idle`; one run for each number.
    #[arg(long, value_delimiter = ',', default_value = "1000,10000")]
    pub(crate) polls: Vec<u32>,
}

/// A server, what to do to it and what to watch meanwhile.
#[derive(Debug)]
pub(crate) struct Bench {
    /// The server and its users.
    pub(crate) stage: Stage,
    /// How much.
    pub(crate) sizes: Sizes,
    /// The processes to watch.
    pub(crate) watched: Vec<Watched>,
    /// The database to measure.
    pub(crate) database: Option<String>,
}

impl Bench {
    /// Plays `scenario`.
    pub(crate) async fn play(&mut self, scenario: Scenario) -> Result<Vec<Outcome>, BenchError> {
        match scenario {
            Scenario::Send => send::run(self).await,
            Scenario::Latency => delivery::latency(self).await,
            Scenario::Fanout => delivery::fanout(self).await,
            Scenario::HotRoom => delivery::hot_room(self).await,
            Scenario::InitialSync => sync::initial(self).await,
            Scenario::IncrementalSync => sync::incremental(self).await,
            Scenario::Messages => messages::run(self).await,
            Scenario::JoinStorm => joins::storm(self).await,
            Scenario::Churn => joins::churn(self).await,
            Scenario::Idle => idle::run(self).await,
        }
    }

    /// Begins to measure.
    fn probe(&self) -> Result<Probe, BenchError> {
        let database = self.database.as_deref().map(database::size).transpose()?;
        Ok(Probe {
            watch: Watch::start(&self.watched),
            database,
        })
    }

    /// Ends what [`Bench::probe`] began and adds it to `outcome`.
    fn finish(&self, probe: Probe, outcome: Outcome) -> Result<Outcome, BenchError> {
        let processes = probe.watch.finish();
        let after = self.database.as_deref().map(database::size).transpose()?;
        let database_growth = after
            .zip(probe.database)
            .map(|(after, before)| after - before);
        Ok(Outcome {
            processes,
            database_growth,
            ..outcome
        })
    }

    /// When a load that begins now ends.
    fn deadline(&self) -> Instant {
        Instant::now() + Duration::from_secs(self.sizes.seconds.into())
    }
}

/// What was there before a load.
#[derive(Debug)]
struct Probe {
    watch: Watch,
    database: Option<i64>,
}
