//! The tables of the configuration about what the server runs on: listeners, databases, files, mail, the log.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use serde::Deserialize;

use super::units::{Bind, Secret, Span};

/// One address on which the server listens.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// An address with a port, or `unix:` and the path of a socket.
    pub bind: Bind,
    /// The certificate; absent means plain HTTP.
    pub tls: Option<Tls>,
    /// Whether a reverse proxy in front sets `X-Forwarded-For`.
    ///
    /// The last address in that header is believed, since the proxy itself wrote it.
    #[serde(default)]
    pub forwarded: bool,
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            bind: Bind::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 8008))),
            tls: None,
            forwarded: false,
        }
    }
}

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The certificate chain, the server's own certificate first.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// The `PostgreSQL` database.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Database {
    /// `postgres://user:password@host/name`; absent means a private cluster under `data_dir`.
    pub url: Option<Secret>,
    /// An address that reaches `PostgreSQL` without a pooler, for migrations.
    pub direct_url: Option<Secret>,
    /// How many connections this process may hold.
    pub max_connections: u32,
    /// How long a request waits for a free connection.
    pub acquire_timeout: Span,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            url: None,
            direct_url: None,
            max_connections: 20,
            acquire_timeout: Span::from_secs(10),
        }
    }
}

/// What several processes of one server share.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// `redis://host:6379`.
    pub url: Secret,
}

/// Where media lie.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Media {
    /// A folder or a bucket.
    pub storage: Storage,
}

/// Where the bytes of media lie.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum Storage {
    /// A folder of this machine.
    Local {
        /// The folder; absent means `media` under `data_dir`.
        path: Option<PathBuf>,
    },
    /// A bucket of an S3 service.
    S3(S3),
}

impl Default for Storage {
    fn default() -> Self {
        Self::Local { path: None }
    }
}

/// A bucket of an S3 service.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3 {
    /// The address of the service; absent means Amazon's.
    pub endpoint: Option<String>,
    /// The bucket.
    pub bucket: String,
    /// The region.
    pub region: String,
    /// The name of the key.
    pub access_key: String,
    /// The key.
    pub secret_key: Secret,
}

/// How the server sends mail.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Email {
    /// `smtp://user:password@host:port`, or `smtps://`.
    pub smtp: Secret,
    /// The sender, `Hearth <noreply@example.org>`.
    pub from: String,
}

/// What is written to the log.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,hearth_rooms=debug`.
    pub level: String,
    /// How lines look.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Text,
        }
    }
}

/// How the lines of the log look.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Figures for Prometheus.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Where `/metrics` is served; absent means nowhere.
    pub bind: Option<Bind>,
}

/// What a process does, among the processes of one server.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It answers requests.
    Http,
    /// It does the work that nobody waits for: pruning, and what others left behind.
    Background,
}
