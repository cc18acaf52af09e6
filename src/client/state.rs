//! What the handlers work with, and how it is put together.

use std::sync::Arc;

use axum::extract::FromRef;
use hearth_core::{Clock, Identity, config::Config};
use hearth_journal::{Journal, Pruner, StartError};
use hearth_push::{Evaluator, Notifications, PushRules, ReadState, Settings, UnreadCounts};
use hearth_rooms::{Departures, Directory, Live, MemberProfiles, Rooms, directory::Alone};
use hearth_store::intern::{Blocks, Interner};
use hearth_users::{
    AccountData, Accounts, Devices, Ephemeral, Filters, OpenIds, Presence, Profiles, Receipts,
    Reports, RoomTags, Sessions, ToDevice, Typing, Uia, UserDirectory, accounts::AccountsParts,
    presence::Switch, sessions::Processes,
};
use sqlx::PgPool;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::http::{Drain, RateLimits};

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
    /// What happens, once it is in memory.
    pub live: Live,
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
}

impl ClientState {
    /// Starts the services; their background work ends with `parts.stop`.
    ///
    /// # Errors
    ///
    /// When the head of the log cannot be read.
    pub async fn start(parts: Parts) -> Result<Self, StartError> {
        let Parts {
            config,
            identity,
            pool,
            clock,
            limits,
            drain,
            tasks,
            stop,
        } = parts;
        let interner = Interner::new(pool.clone());
        let blocks = Blocks::new(pool.clone());
        let journal = Journal::start(pool.clone(), blocks.clone(), &tasks, stop.clone()).await?;
        tasks.spawn(Pruner::new(journal.clone(), clock.clone()).run(stop.clone()));
        let rooms = Rooms::new(hearth_rooms::Parts {
            pool: pool.clone(),
            journal: journal.clone(),
            interner: interner.clone(),
            blocks,
            identity,
            clock: clock.clone(),
        });
        let live = rooms.follow(&tasks, stop.clone());
        let departures = Departures::start(rooms.clone(), tasks.clone(), stop.clone());
        let member_profiles = MemberProfiles::start(rooms.clone(), tasks.clone(), stop.clone());
        let processes = match config.redis {
            Some(_) => Processes::Many,
            None => Processes::One,
        };
        let sessions = Sessions::new(pool.clone(), journal.clone(), clock.clone(), processes);
        tasks.spawn(sessions.clone().run(stop.clone()));
        let accounts = Accounts::new(AccountsParts {
            pool: pool.clone(),
            interner: interner.clone(),
            clock: clock.clone(),
            server_name: config.server_name.clone(),
            sessions: sessions.clone(),
        });
        let registration = config.registration.clone();
        let account_data = AccountData::new(pool.clone(), journal.clone());
        let receipts = Receipts::new(pool.clone(), journal.clone());
        let push = Push::start(
            &pool,
            &journal,
            &rooms,
            (&account_data, &receipts),
            (&tasks, &stop),
        );
        let seen = Seen::start(&pool, &clock, &config, (&tasks, &stop));

        Ok(Self {
            devices: Devices::new(pool.clone(), journal.clone(), sessions.clone()),
            profiles: Profiles::new(pool.clone()),
            openids: OpenIds::new(pool.clone(), clock.clone()),
            tags: RoomTags::new(account_data.clone()),
            filters: Filters::new(pool.clone()),
            to_device: ToDevice::new(
                pool.clone(),
                journal.clone(),
                interner.clone(),
                clock.clone(),
                config.server_name.clone(),
            ),
            reports: Reports::new(pool.clone(), interner.clone(), clock.clone()),
            user_directory: UserDirectory::new(pool.clone(), interner.clone()),
            ephemeral: seen.ephemeral,
            typing: seen.typing,
            presence: seen.presence,
            read_state: ReadState::new(
                pool.clone(),
                rooms.clone(),
                receipts.clone(),
                account_data.clone(),
                clock.clone(),
            ),
            push_rules: PushRules::new(account_data.clone()),
            notifications: push.notifications,
            settings: push.settings,
            evaluator: push.evaluator,
            unread: push.unread,
            uia: Uia::new(pool, clock.clone(), accounts.clone(), registration),
            receipts,
            account_data,
            config,
            clock,
            limits,
            drain,
            interner,
            journal,
            accounts,
            sessions,
            directory: Directory::new(rooms.clone(), Arc::new(Alone)),
            member_profiles,
            rooms,
            departures,
            live,
        })
    }
}

/// The services that evaluate events for users.
struct Push {
    settings: Settings,
    evaluator: Evaluator,
    unread: UnreadCounts,
    notifications: Notifications,
}

impl Push {
    fn start(
        pool: &PgPool,
        journal: &Journal,
        rooms: &Rooms,
        (account_data, receipts): (&AccountData, &Receipts),
        (tasks, stop): (&TaskTracker, &CancellationToken),
    ) -> Self {
        let settings = Settings::start(account_data.clone(), journal.clone(), tasks, stop.clone());
        let evaluator = Evaluator::new(rooms.clone(), settings.clone(), pool.clone());
        let unread = UnreadCounts::start(
            evaluator.clone(),
            receipts.clone(),
            journal.clone(),
            tasks,
            stop.clone(),
        );
        let notifications = Notifications::new(
            pool.clone(),
            journal.clone(),
            evaluator.clone(),
            receipts.clone(),
        );
        Self {
            settings,
            evaluator,
            unread,
            notifications,
        }
    }
}

/// The services that know what users do right now.
struct Seen {
    ephemeral: Ephemeral,
    typing: Typing,
    presence: Presence,
}

impl Seen {
    fn start(
        pool: &PgPool,
        clock: &Clock,
        config: &Config,
        (tasks, stop): (&TaskTracker, &CancellationToken),
    ) -> Self {
        let ephemeral = Ephemeral::new();
        let typing = Typing::new(pool.clone(), clock.clone(), ephemeral.clone());
        tasks.spawn(typing.clone().run(stop.clone()));
        let switch = match config.presence.enabled {
            true => Switch::On,
            false => Switch::Off,
        };
        let presence = Presence::new(pool.clone(), clock.clone(), ephemeral.clone(), switch);
        tasks.spawn(presence.clone().run(stop.clone()));
        Self {
            ephemeral,
            typing,
            presence,
        }
    }
}
