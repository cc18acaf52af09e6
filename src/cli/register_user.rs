//! `hearth register-user`.

use std::{error::Error, process::ExitCode};

use hearth_core::{Clock, config::Config};
use hearth_journal::{self as journal, Journal};
use hearth_store::{
    Database, Occupancy,
    intern::{Blocks, Interner},
};
use hearth_users::{
    Accounts, Sessions,
    accounts::{Account, AccountsParts, Kind, NewAccount, NewPassword},
    sessions::SessionsParts,
};

use super::{NewUser, fail, say};
use crate::{server::Background, settings};

/// Creates an account in the database of the configuration.
pub(super) fn run(user: NewUser) -> ExitCode {
    let config = match settings::read(user.config.path().as_deref()) {
        Ok(config) => config,
        Err(error) => return fail(&error),
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    match runtime.block_on(register(config, user)) {
        Ok(account) if account.admin => say(&format!(
            "{} exists now, and administers the server.\n",
            account.user_id
        )),
        Ok(account) => say(&format!("{} exists now.\n", account.user_id)),
        Err(error) => fail(&*error),
    }
}

/// Opens the database beside a running server, or by itself.
async fn register(config: Config, user: NewUser) -> Result<Account, Box<dyn Error>> {
    tokio::fs::create_dir_all(&config.data_dir).await?;
    let database = Database::open(&config.database, &config.data_dir, &config.server_name).await?;
    let background = Background::default();
    let account = register_with(&database, &background, config, user).await;
    background.end().await;
    database.close().await;
    account
}

/// Makes the account with as few services as that needs.
async fn register_with(
    database: &Database,
    background: &Background,
    config: Config,
    user: NewUser,
) -> Result<Account, Box<dyn Error>> {
    let pool = database.pool().clone();
    let clock = Clock::system();
    let interner = Interner::new(pool.clone());
    let journal = Journal::start(journal::Parts {
        pool: pool.clone(),
        blocks: Blocks::new(pool.clone()),
        interner: interner.clone(),
        redis: config.redis.as_ref(),
        tasks: &background.tasks,
        stop: background.stop.clone(),
    })
    .await?;
    let accounts = Accounts::new(AccountsParts {
        sessions: Sessions::new(SessionsParts {
            pool: pool.clone(),
            journal,
            clock: clock.clone(),
            occupancy: Occupancy::shared(),
            config: config.sessions.clone(),
        }),
        interner,
        pool,
        clock,
        server_name: config.server_name,
        login_token_lifetime: config.sessions.login_token_lifetime.duration(),
    });
    let account = NewAccount {
        username: Some(user.user),
        password: Some(NewPassword::Plain(user.password)),
        kind: if user.admin { Kind::Admin } else { Kind::User },
        registration_token: None,
    };
    Ok(accounts.register(account).await?)
}
