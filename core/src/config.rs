//! The configuration of a server: its types, their defaults, how they are read and judged.
//!
//! A configuration is a TOML text overlaid by `HEARTH_*` environment variables. Nothing here
//! touches a file: whoever calls [`Config::load`] passes the text, the variables and a function
//! that reads the files in which secrets may lie.

mod check;
mod load;
mod problem;
mod sections;
mod surroundings;
mod template;
mod tree;
mod units;

use std::path::PathBuf;

use ruma::OwnedServerName;
use serde::Deserialize;

pub use self::{
    load::Sources,
    problem::{Place, Problem, Problems},
    sections::{
        Appservice, Contact, Federation, Limits, OldVerifyKey, Policy, Presence, Push,
        Registration, Rooms, ServerNotices, Sessions, Support, Voip, WellKnown,
    },
    surroundings::{
        Database, Email, Listener, Log, LogFormat, Media, Metrics, Redis, Role, S3, Storage, Tls,
    },
    template::template,
    units::{Bind, Rate, Secret, Size, Span},
};

/// Everything an operator can set.
///
/// Relative paths are relative to the directory that the server is started in.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The part of user ids behind the colon. It can never be changed afterwards.
    pub server_name: OwnedServerName,
    /// The folder of the signing key, the private database and local media.
    pub data_dir: PathBuf,
    /// The address under which clients reach this server, `https://matrix.example.org`.
    pub public_baseurl: Option<String>,
    /// Where the server listens for clients and peers.
    pub listen: Vec<Listener>,
    /// The database; a private one under `data_dir` when no address is given.
    pub database: Database,
    /// What several processes share; absent means that there is one process.
    pub redis: Option<Redis>,
    /// Where media lie.
    pub media: Media,
    /// Who may create an account.
    pub registration: Registration,
    /// How long sessions last, and how they begin.
    pub sessions: Sessions,
    /// Traffic with other servers.
    pub federation: Federation,
    /// How push gateways are told what happens.
    pub push: Push,
    /// What new rooms are like.
    pub rooms: Rooms,
    /// How the server sends mail; absent means that it does not.
    pub email: Option<Email>,
    /// Sizes, times and rates that are refused when exceeded.
    pub limits: Limits,
    /// What is written to the log.
    pub log: Log,
    /// Figures for Prometheus.
    pub metrics: Metrics,
    /// TURN servers for calls.
    pub voip: Voip,
    /// Whom users and other administrators can ask for help.
    pub support: Support,
    /// What `/.well-known/matrix/server` says.
    pub well_known: WellKnown,
    /// Whether users see who is online.
    pub presence: Presence,
    /// What this process does, among the processes of one server.
    pub roles: Vec<Role>,
    /// Who tells users something in the server's name; absent means that nobody does.
    pub server_notices: Option<ServerNotices>,
    /// Bridges and bots that are registered as application services.
    pub appservices: Vec<Appservice>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server_name: ruma::server_name!("localhost").to_owned(),
            data_dir: PathBuf::from("data"),
            public_baseurl: None,
            listen: vec![Listener::default()],
            database: Database::default(),
            redis: None,
            media: Media::default(),
            registration: Registration::default(),
            sessions: Sessions::default(),
            federation: Federation::default(),
            push: Push::default(),
            rooms: Rooms::default(),
            email: None,
            limits: Limits::default(),
            log: Log::default(),
            metrics: Metrics::default(),
            voip: Voip::default(),
            support: Support::default(),
            well_known: WellKnown::default(),
            presence: Presence::default(),
            roles: vec![Role::Http, Role::Background],
            server_notices: None,
            appservices: Vec::new(),
        }
    }
}

impl Config {
    /// Reads and judges a configuration.
    ///
    /// # Errors
    ///
    /// All problems that were found, in the order of the file.
    pub fn load(sources: Sources<'_>) -> Result<Self, Problems> {
        load::load(sources)
    }

    /// The address under which clients reach this server, without a slash at its end, if it is set.
    #[must_use]
    pub fn client_baseurl(&self) -> Option<&str> {
        let url = self.public_baseurl.as_deref()?;
        Some(url.trim_end_matches('/'))
    }

    /// Whether this process does `role`.
    #[must_use]
    pub fn does(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }
}
