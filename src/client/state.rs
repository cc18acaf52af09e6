//! What the handlers work with, and how it is put together.

mod parts;

use std::sync::Arc;

use axum::extract::FromRef;
use hearth_core::{
    Clock, Identity,
    config::{Config, Role},
};
use hearth_federation::{Outbound, outbound};
use hearth_journal::{Journal, Processes, StartError};
use hearth_push::{
    Evaluator, Gateways, Notifications, PushRules, Pushers, Pushing, PushingParts, ReadState,
    Settings, Successions, UnreadCounts,
};
use hearth_rooms::{Departures, Directory, Live, MemberProfiles, Rooms};
use hearth_store::{Occupancy, intern::Interner};
use hearth_sync::Sync;
use hearth_users::{
    AccountData, Accounts, Devices, Ephemeral, Filters, OpenIds, Presence, Profiles, Receipts,
    Reports, RoomTags, Sessions, ToDevice, Typing, Uia, UserDirectory,
};
use sqlx::PgPool;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::parts::{Ground, Neighbours, OwnData, Push, Seen};
use crate::{
    federation::Outside,
    http::{Drain, RateLimits},
    server_notices::ServerNotices,
};

/// What the handlers of the client-server API work with. Each takes the two or three parts that it needs.
#[derive(Clone, Debug, FromRef)]
pub struct ClientState {
    /// The configuration.
    pub config: Arc<Config>,
    /// The time.
    pub clock: Clock,
    /// Rate limits.
    pub limits: RateLimits,
    /// Tells those who wait that the server stops.
    pub drain: Drain,
    /// The numbers of users and state keys.
    pub interner: Interner,
    /// The log.
    pub journal: Journal,
    /// Who has an account.
    pub accounts: Accounts,
    /// Whom access tokens stand for.
    pub sessions: Sessions,
    /// The devices of users.
    pub devices: Devices,
    /// What users tell about themselves.
    pub profiles: Profiles,
    /// What users keep on the server.
    pub account_data: AccountData,
    /// Tokens for third parties.
    pub openids: OpenIds,
    /// User-interactive authentication.
    pub uia: Uia,
    /// Tags of rooms.
    pub tags: RoomTags,
    /// Filters that clients keep here.
    pub filters: Filters,
    /// Messages to devices.
    pub to_device: ToDevice,
    /// What users report.
    pub reports: Reports,
    /// Who finds whom.
    pub user_directory: UserDirectory,
    /// The count of changes to typing and presence.
    pub ephemeral: Ephemeral,
    /// Who types where.
    pub typing: Typing,
    /// Who is there.
    pub presence: Presence,
    /// Receipts.
    pub receipts: Receipts,
    /// How far users have read.
    pub read_state: ReadState,
    /// Push rules.
    pub push_rules: PushRules,
    /// Through whom users want to be told.
    pub pushers: Pushers,
    /// Push rules in memory.
    pub settings: Settings,
    /// What push rules say to events.
    pub evaluator: Evaluator,
    /// What users have not read.
    pub unread: UnreadCounts,
    /// What notified users.
    pub notifications: Notifications,
    /// Rooms.
    pub rooms: Rooms,
    /// Leaving all rooms at once.
    pub departures: Departures,
    /// Finds rooms.
    pub directory: Directory,
    /// Shows new profiles in rooms.
    pub member_profiles: MemberProfiles,
    /// What goes along when a room is replaced.
    pub successions: Successions,
    /// What the server tells users.
    pub(crate) server_notices: ServerNotices,
    /// What happens, once it is in memory.
    pub live: Live,
    /// What is new for users.
    pub sync: Sync,
    /// The way to other servers, if there is one.
    pub outside: Option<Outside>,
    /// Sends to other servers, if there is a way to them.
    pub outbound: Option<Outbound>,
}

/// What the services are made of.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The configuration.
    pub config: Arc<Config>,
    /// Who signs events.
    pub identity: Arc<Identity>,
    /// The database.
    pub pool: PgPool,
    /// Whether other processes use it too.
    pub occupancy: Occupancy,
    /// The time.
    pub clock: Clock,
    /// Rate limits.
    pub limits: RateLimits,
    /// Tells requests that wait that the server stops.
    pub drain: Drain,
    /// Where background work is started.
    pub tasks: TaskTracker,
    /// When it has to end, which is after the last request.
    pub stop: CancellationToken,
    /// The way to other servers, if there is one.
    pub outside: Option<Outside>,
    /// The way to push gateways.
    pub gateways: Arc<dyn Gateways>,
}

impl ClientState {
    /// Starts the services; their background work ends with `parts.stop`.
    ///
    /// # Errors
    ///
    /// When the head of the log cannot be read.
    pub async fn start(parts: Parts) -> Result<Self, StartError> {
        let (config, pool, clock) = (&parts.config, &parts.pool, &parts.clock);
        let work = (&parts.tasks, &parts.stop);
        let others = Neighbours::new(parts.outside.as_ref());
        let ground = Ground::start(&parts, &others).await?;
        let own = OwnData::new(pool, clock, config, &ground);
        let push = Push::start(pool, &ground, &own, work);
        let seen = Seen::start(pool, clock, config, work).await?;
        let server_notices = start_notices((config, pool), &ground, &own).await?;
        let outbound = start_outbound(&parts, &ground, &seen);
        start_pushing(&parts, &ground, (&push, &own));
        let sync = start_sync(pool, &ground, (&seen, &push), work);
        let (journal, sessions) = (ground.journal, ground.sessions);

        Ok(Self {
            sync,
            outside: parts.outside,
            outbound,
            devices: Devices::new(pool.clone(), journal.clone(), sessions.clone()),
            profiles: Profiles::new(pool.clone()),
            openids: OpenIds::new(pool.clone(), clock.clone()),
            tags: own.tags,
            filters: own.filters,
            to_device: own.to_device,
            reports: own.reports,
            user_directory: own.user_directory,
            ephemeral: seen.ephemeral,
            typing: seen.typing,
            presence: seen.presence,
            read_state: own.read_state,
            successions: Successions::new(ground.rooms.clone(), own.account_data.clone()),
            push_rules: own.push_rules,
            pushers: own.pushers,
            notifications: push.notifications,
            settings: push.settings,
            evaluator: push.evaluator,
            unread: push.unread,
            uia: Uia::new(
                pool.clone(),
                clock.clone(),
                ground.accounts.clone(),
                config.registration.clone(),
            ),
            receipts: own.receipts,
            account_data: own.account_data,
            config: Arc::clone(config),
            clock: clock.clone(),
            limits: parts.limits,
            drain: parts.drain,
            interner: ground.interner,
            journal,
            accounts: ground.accounts,
            sessions,
            directory: Directory::new(ground.rooms.clone(), others.directory),
            member_profiles: ground.member_profiles,
            rooms: ground.rooms,
            departures: ground.departures,
            live: ground.live,
            server_notices,
        })
    }
}

/// Keeps the name free in which the server tells users something.
async fn start_notices(
    base: (&Arc<Config>, &PgPool),
    ground: &Ground,
    own: &OwnData,
) -> Result<ServerNotices, StartError> {
    let notices = ServerNotices::new(base, &ground.rooms, &ground.accounts, &own.tags);
    notices.reserve().await?;
    Ok(notices)
}

/// Starts to send to other servers.
fn start_outbound(parts: &Parts, ground: &Ground, seen: &Seen) -> Option<Outbound> {
    let outbound = outbound::Parts {
        pool: parts.pool.clone(),
        clock: parts.clock.clone(),
        client: parts.outside.as_ref()?.client.clone(),
        identity: Arc::clone(&parts.identity),
        journal: ground.journal.clone(),
        rooms: ground.rooms.clone(),
        ephemeral: seen.ephemeral.clone(),
        typing: seen.typing.clone(),
        presence: seen.presence.clone(),
        processes: processes(&parts.config),
        tasks: parts.tasks.clone(),
        stop: parts.stop.clone(),
    };
    Some(Outbound::start(outbound, &ground.live))
}

/// Starts to tell push gateways what notifies, if this process does such work.
fn start_pushing(parts: &Parts, ground: &Ground, (push, own): (&Push, &OwnData)) {
    if !parts.config.does(Role::Background) {
        return;
    }
    let pushing = PushingParts {
        pool: parts.pool.clone(),
        clock: parts.clock.clone(),
        journal: ground.journal.clone(),
        evaluator: push.evaluator.clone(),
        unread: push.unread.clone(),
        receipts: own.receipts.clone(),
        gateways: Arc::clone(&parts.gateways),
        processes: processes(&parts.config),
        tasks: parts.tasks.clone(),
        stop: parts.stop.clone(),
    };
    Pushing::start(pushing, &ground.live);
}

/// Whether others may do the work of which one process does all.
fn processes(config: &Config) -> Processes {
    match config.redis {
        Some(_) => Processes::Many,
        None => Processes::One,
    }
}

/// Starts to follow what is new for users.
fn start_sync(
    pool: &PgPool,
    ground: &Ground,
    (seen, push): (&Seen, &Push),
    (tasks, stop): (&TaskTracker, &CancellationToken),
) -> Sync {
    let parts = hearth_sync::Parts {
        pool: pool.clone(),
        journal: ground.journal.clone(),
        rooms: ground.rooms.clone(),
        ephemeral: seen.ephemeral.clone(),
        typing: seen.typing.clone(),
        presence: seen.presence.clone(),
        settings: push.settings.clone(),
        unread: push.unread.clone(),
    };
    Sync::start(parts, &ground.live, tasks, stop)
}
