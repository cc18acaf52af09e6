//! How the services are put together.

use std::sync::Arc;

use hearth_core::{Clock, Identity, config::Config};
use hearth_journal::{self as journal, Journal, Pruner, StartError};
use hearth_push::{Evaluator, Notifications, PushRules, ReadState, Settings, UnreadCounts};
use hearth_rooms::{Departures, Live, MemberProfiles, Rooms, peers::Alone};
use hearth_store::intern::{Blocks, Interner};
use hearth_users::{
    AccountData, Accounts, Ephemeral, Filters, Presence, Receipts, Reports, RoomTags, Sessions,
    ToDevice, Typing, UserDirectory, accounts::AccountsParts, presence::Switch,
    sessions::Processes,
};
use sqlx::PgPool;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Where background work is started, and when it ends.
type Work<'a> = (&'a TaskTracker, &'a CancellationToken);

/// The services that all others stand on.
pub(super) struct Ground {
    pub(super) interner: Interner,
    pub(super) journal: Journal,
    pub(super) rooms: Rooms,
    pub(super) live: Live,
    pub(super) departures: Departures,
    pub(super) member_profiles: MemberProfiles,
    pub(super) sessions: Sessions,
    pub(super) accounts: Accounts,
}

impl Ground {
    pub(super) async fn start(
        config: &Config,
        identity: Arc<Identity>,
        pool: &PgPool,
        clock: &Clock,
        (tasks, stop): Work<'_>,
    ) -> Result<Self, StartError> {
        let interner = Interner::new(pool.clone());
        let blocks = Blocks::new(pool.clone());
        let journal = Journal::start(journal::Parts {
            pool: pool.clone(),
            blocks: blocks.clone(),
            interner: interner.clone(),
            redis: config.redis.as_ref(),
            tasks,
            stop: stop.clone(),
        })
        .await?;
        tasks.spawn(Pruner::new(journal.clone(), clock.clone()).run(stop.clone()));
        let rooms = Rooms::new(hearth_rooms::Parts {
            pool: pool.clone(),
            journal: journal.clone(),
            interner: interner.clone(),
            blocks,
            identity,
            clock: clock.clone(),
            peers: Arc::new(Alone),
            residents: Arc::new(Alone),
            tasks: tasks.clone(),
        });
        let live = rooms.follow(tasks, stop.clone());
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
        Ok(Self {
            interner,
            journal,
            rooms,
            live,
            departures,
            member_profiles,
            sessions,
            accounts,
        })
    }
}

/// The services of what users own.
pub(super) struct OwnData {
    pub(super) account_data: AccountData,
    pub(super) receipts: Receipts,
    pub(super) tags: RoomTags,
    pub(super) filters: Filters,
    pub(super) to_device: ToDevice,
    pub(super) reports: Reports,
    pub(super) user_directory: UserDirectory,
    pub(super) read_state: ReadState,
    pub(super) push_rules: PushRules,
}

impl OwnData {
    pub(super) fn new(pool: &PgPool, clock: &Clock, config: &Config, ground: &Ground) -> Self {
        let Ground {
            interner,
            journal,
            rooms,
            ..
        } = ground;
        let account_data = AccountData::new(pool.clone(), journal.clone());
        let receipts = Receipts::new(pool.clone(), journal.clone());
        Self {
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
            read_state: ReadState::new(
                pool.clone(),
                rooms.clone(),
                receipts.clone(),
                account_data.clone(),
                clock.clone(),
            ),
            push_rules: PushRules::new(account_data.clone()),
            receipts,
            account_data,
        }
    }
}

/// The services that evaluate events for users.
pub(super) struct Push {
    pub(super) settings: Settings,
    pub(super) evaluator: Evaluator,
    pub(super) unread: UnreadCounts,
    pub(super) notifications: Notifications,
}

impl Push {
    pub(super) fn start(
        pool: &PgPool,
        ground: &Ground,
        own: &OwnData,
        (tasks, stop): Work<'_>,
    ) -> Self {
        let (journal, receipts) = (&ground.journal, &own.receipts);
        let settings = Settings::start(
            own.account_data.clone(),
            journal.clone(),
            tasks,
            stop.clone(),
        );
        let evaluator = Evaluator::new(ground.rooms.clone(), settings.clone(), pool.clone());
        let unread = UnreadCounts::start(
            evaluator.clone(),
            receipts.clone(),
            (journal.clone(), &ground.live),
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
pub(super) struct Seen {
    pub(super) ephemeral: Ephemeral,
    pub(super) typing: Typing,
    pub(super) presence: Presence,
}

impl Seen {
    pub(super) fn start(
        pool: &PgPool,
        clock: &Clock,
        config: &Config,
        (tasks, stop): Work<'_>,
    ) -> Self {
        let ephemeral = Ephemeral::new();
        let typing = Typing::new(pool.clone(), clock.clone(), ephemeral.clone());
        tasks.spawn(typing.clone().run(stop.clone()));
        let switch = if config.presence.enabled {
            Switch::On
        } else {
            Switch::Off
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
