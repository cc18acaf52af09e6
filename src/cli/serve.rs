//! `hearth serve`.

use std::{error::Error, fmt::Write as _, io, path::Path, process::ExitCode};

use hearth_core::config::Config;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use super::{fail, say};
use crate::{
    log::{self, Level},
    server::{RunningServer, Server},
    settings,
};

/// Runs the server until a signal ends it.
pub(super) fn run(file: Option<&Path>) -> ExitCode {
    let config = match settings::read(file) {
        Ok(config) => config,
        Err(error) => return fail(&error),
    };
    let level = match log::start(&config.log) {
        Ok(level) => level,
        Err(error) => return fail(&error),
    };
    allow_many_files();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    match runtime.block_on(serve(config, file, &level)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&*error),
    }
}

async fn serve(config: Config, file: Option<&Path>, level: &Level) -> Result<(), Box<dyn Error>> {
    // Signals are listened to first, so that none is lost while the server starts.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;

    let server = tokio::select! {
        server = Server::start(config.clone()) => server?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    say(&greeting(&server, &config, file));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => reload(&server, file, level),
        }
    }
    tracing::info!("stopping");
    tokio::select! {
        () = server.shutdown() => tracing::info!("stopped"),
        _ = interrupt.recv() => tracing::warn!("stopped in haste"),
    }
    Ok(())
}

/// Takes a changed configuration into force, as far as that goes without a new start.
fn reload(server: &RunningServer, file: Option<&Path>, level: &Level) {
    let config = match settings::read(file) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!("the configuration stays as it is:\n{error}");
            return;
        }
    };
    if let Err(error) = level.set(&config.log) {
        tracing::error!("the level of the log stays as it is: {error}");
    }
    match server.reload(&config) {
        Ok(()) => tracing::info!("read log level, limits and certificates again"),
        Err(errors) => {
            for error in errors {
                tracing::error!("a certificate stays as it is: {error}");
            }
        }
    }
}

/// What a person reads who starts the server at a terminal.
fn greeting(server: &RunningServer, config: &Config, file: Option<&Path>) -> String {
    let data = std::path::absolute(&config.data_dir).unwrap_or_else(|_| config.data_dir.clone());
    let mut text = format!("\nHearth serves {} on\n", config.server_name);
    for address in server.addresses() {
        let _ = writeln!(text, "    {address}");
    }
    let _ = writeln!(text, "Data lies in\n    {}", data.display());
    let option = file.map_or_else(String::new, |file| format!(" --config {}", file.display()));
    let program = std::env::args()
        .next()
        .unwrap_or_else(|| "hearth".to_owned());
    let _ = writeln!(
        text,
        "Make the first user, in another terminal, with\n    \
         {program} register-user -u NAME -p PASSWORD --admin{option}\n\
         Then open a Matrix client and enter this as the homeserver:\n    {}\n\
         Ctrl-C stops the server.\n",
        config
            .public_baseurl
            .clone()
            .unwrap_or_else(|| server.web_address()),
    );
    text
}

/// Takes all open files that the system grants, since each connection is one.
///
/// Programs begin with 1024, for the sake of some that cannot count further.
fn allow_many_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        let error = io::Error::from(error);
        tracing::warn!("cannot raise the limit of open files: {error}");
    }
}
