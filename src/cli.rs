//! The command line.

mod register_user;
mod serve;

use std::{
    fmt::Write as _,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use hearth_core::config;
use ruma::OwnedServerName;

use crate::settings;

/// A Matrix homeserver.
#[derive(Debug, Parser)]
#[command(name = "hearth", version, about, long_about = None)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the server.
    Serve(ConfigFile),
    /// Create an account, whether the server runs or not.
    RegisterUser(NewUser),
    /// Print a configuration in which every setting is explained.
    GenerateConfig {
        /// The part of user ids behind the colon. It can never be changed.
        #[arg(long)]
        server_name: OwnedServerName,
    },
    /// Say what is wrong with the configuration, line by line.
    CheckConfig(ConfigFile),
}

#[derive(Args, Clone, Debug)]
struct ConfigFile {
    /// The configuration; hearth.toml if it exists, else the defaults.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct NewUser {
    /// The name, the part of the user id before the colon.
    #[arg(long, short, value_name = "NAME")]
    user: String,
    /// The password.
    #[arg(long, short)]
    password: String,
    /// Let the user administer the server.
    #[arg(long)]
    admin: bool,
    #[command(flatten)]
    config: ConfigFile,
}

impl ConfigFile {
    /// The file that was named here or in `HEARTH_CONFIG`.
    fn path(&self) -> Option<PathBuf> {
        let variable = || std::env::var_os("HEARTH_CONFIG").map(PathBuf::from);
        self.config.clone().or_else(variable)
    }
}

/// Does what the command line says.
#[must_use]
pub fn run() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(file) => serve::run(file.path().as_deref()),
        Command::RegisterUser(user) => register_user::run(user),
        Command::GenerateConfig { server_name } => say(&config::template(&server_name)),
        Command::CheckConfig(file) => check_config(file.path().as_deref()),
    }
}

fn check_config(file: Option<&Path>) -> ExitCode {
    match settings::read(file) {
        Ok(config) => say(&format!(
            "The configuration of {} is in order.\n",
            config.server_name
        )),
        Err(error) => fail(&error),
    }
}

/// Prints `text`. That nobody reads it to its end is no failure of ours.
fn say(text: &str) -> ExitCode {
    let mut output = std::io::stdout().lock();
    match output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush())
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Prints an error with its causes.
fn fail(error: &dyn std::error::Error) -> ExitCode {
    let mut text = format!("hearth: {error}\n");
    let mut last = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let message = error.to_string();
        if !last.contains(&message) {
            let _ = writeln!(text, "  because: {message}");
        }
        last = message;
        source = error.source();
    }
    // There is nobody left to tell when this fails.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
    ExitCode::FAILURE
}
