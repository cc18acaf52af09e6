//! How the services are put together.

use std::sync::Arc;

use hearth_core::{
    Clock,
    config::{Config, Role},
};
use hearth_journal::{self as journal, Exchange, Journal, Pruner, StartError};
use hearth_push::{
    Evaluator, Notifications, PushRules, Pushers, ReadState, Schemes, Settings, UnreadCounts,
};
use hearth_rooms::{
    Departures, Live, MemberProfiles, Peers, Residents, Rooms, directory::RemoteDirectory,
    peers::Alone,
};
use hearth_store::intern::{Blocks, Interner};
use hearth_users::{
    AccountData, Accounts, Ephemeral, Filters, Presence, Receipts, Reports, RoomTags, Sessions,
    ToDevice, Typing, UserDirectory, accounts::AccountsParts, ephemeral::Sharing, presence::Switch,
    sessions::SessionsParts,
};
use sqlx::PgPool;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::Parts;
use crate::federation::Outside;

/// Where background work is started, and when it ends.
type Work<'a> = (&'a TaskTracker, &'a CancellationToken);

/// Other servers, for those who ask them.
pub(super) struct Neighbours {
    peers: Arc<dyn Peers>,
    residents: Arc<dyn Residents>,
    pub(super) directory: Arc<dyn RemoteDirectory>,
}

impl Neighbours {
    /// There are none without a way to them.
    pub(super) fn new(outside: Option<&Outside>) -> Self {
        match outside {
            Some(Outside { others, .. }) => Self {
                peers: Arc::new(others.clone()),
                residents: Arc::new(others.clone()),
                directory: Arc::new(others.clone()),
            },
            None => Self {
                peers: Arc::new(Alone),
                residents: Arc::new(Alone),
                directory: Arc::new(Alone),
            },
        }
    }
}

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
    pub(super) async fn start(parts: &Parts, others: &Neighbours) -> Result<Self, StartError> {
        let Parts {
            config,
            identity,
            pool,
            occupancy,
            clock,
            tasks,
            stop,
            ..
        } = parts;
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
        let rooms = Rooms::new(hearth_rooms::Parts {
            pool: pool.clone(),
            journal: journal.clone(),
            interner: interner.clone(),
            blocks,
            identity: Arc::clone(identity),
            clock: clock.clone(),
            peers: Arc::clone(&others.peers),
            residents: Arc::clone(&others.residents),
            tasks: tasks.clone(),
            occupancy: occupancy.clone(),
        });
        let live = rooms.follow(tasks, stop.clone());
        rooms.see_guests_out(&live, tasks, stop.clone());
        let departures = Departures::new(rooms.clone(), tasks.clone(), stop.clone());
        let member_profiles = MemberProfiles::new(rooms.clone(), tasks.clone(), stop.clone());
        let sessions = open_sessions(parts, &journal);
        let accounts = open_accounts(parts, &interner, &sessions);
        let ground = Self {
            interner,
            journal,
            rooms,
            live,
            departures,
            member_profiles,
            sessions,
            accounts,
        };
        if config.does(Role::Background) {
            ground.work_behind_the_scenes(parts);
        }
        Ok(ground)
    }

    /// Starts the work that nobody waits for.
    fn work_behind_the_scenes(&self, parts: &Parts) {
        let pruner = Pruner::new(self.journal.clone(), parts.clock.clone());
        parts.tasks.spawn(pruner.run(parts.stop.clone()));
        parts.tasks.spawn(self.departures.clone().sweep());
        parts.tasks.spawn(self.member_profiles.clone().sweep());
    }
}

fn open_accounts(parts: &Parts, interner: &Interner, sessions: &Sessions) -> Accounts {
    Accounts::new(AccountsParts {
        pool: parts.pool.clone(),
        interner: interner.clone(),
        clock: parts.clock.clone(),
        server_name: parts.config.server_name.clone(),
        login_token_lifetime: parts.config.sessions.login_token_lifetime.duration(),
        sessions: sessions.clone(),
    })
}

fn open_sessions(parts: &Parts, journal: &Journal) -> Sessions {
    let sessions = Sessions::new(SessionsParts {
        pool: parts.pool.clone(),
        journal: journal.clone(),
        clock: parts.clock.clone(),
        occupancy: parts.occupancy.clone(),
        config: parts.config.sessions.clone(),
    });
    let stop = parts.stop.clone();
    parts.tasks.spawn(sessions.clone().run(stop));
    sessions
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
    pub(super) pushers: Pushers,
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
            pushers: Pushers::new(
                pool.clone(),
                journal.clone(),
                clock.clone(),
                match config.push.allow_http {
                    true => Schemes::HttpToo,
                    false => Schemes::Https,
                },
            ),
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
    pub(super) async fn start(
        pool: &PgPool,
        clock: &Clock,
        config: &Config,
        (tasks, stop): Work<'_>,
    ) -> Result<Self, StartError> {
        let (ephemeral, heard) = match &config.redis {
            None => (Ephemeral::new(), None),
            Some(redis) => {
                let (exchange, heard) =
                    Exchange::open(pool, redis, "ephemeral", (tasks, stop)).await?;
                let ephemeral = Ephemeral::among_others(exchange, clock.clone());
                (ephemeral, Some(heard))
            }
        };
        let typing = Typing::new(pool.clone(), clock.clone(), ephemeral.clone());
        tasks.spawn(typing.clone().run(stop.clone()));
        let switch = if config.presence.enabled {
            Switch::On
        } else {
            Switch::Off
        };
        let presence = Presence::new(pool.clone(), clock.clone(), ephemeral.clone(), switch);
        tasks.spawn(presence.clone().run(stop.clone()));
        if let Some(heard) = heard {
            let sharing = Sharing::new(ephemeral.clone(), typing.clone(), presence.clone(), heard);
            tasks.spawn(sharing.run(stop.clone()));
        }
        Ok(Self {
            ephemeral,
            typing,
            presence,
        })
    }
}
