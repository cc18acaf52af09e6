//! The tables of the configuration about what the server does.

use std::{collections::BTreeMap, path::PathBuf};

use ruma::{OwnedServerName, OwnedServerSigningKeyId, OwnedUserId, RoomVersionId, serde::Base64};
use serde::Deserialize;

use super::units::{Rate, Secret, Size, Span};

/// Who may create an account.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registration {
    /// Whether strangers may register without a token.
    pub enabled: bool,
    /// Whether strangers may look around as guests, in rooms that admit them.
    pub guests: bool,
    /// The secret of `/_synapse/admin/v1/register`, with which tools create accounts.
    pub shared_secret: Option<Secret>,
    /// Whoever knows it may register (`m.login.registration_token`).
    pub token: Option<Secret>,
    /// What a new user has to agree to (`m.login.terms`), by the id of the policy.
    pub terms: BTreeMap<String, Policy>,
}

/// How long sessions last, and how they begin.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sessions {
    /// How long an access token lives whose client refreshes it. Other tokens live as long as their device.
    pub access_token_lifetime: Span,
    /// How long a refresh token lives that is not used; absent means for ever.
    pub refresh_token_lifetime: Option<Span>,
    /// Whether a device that is logged in may let another one in (`m.login.token`).
    pub login_tokens: bool,
    /// How long a token for that works.
    pub login_token_lifetime: Span,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            access_token_lifetime: Span::from_secs(5 * 60),
            refresh_token_lifetime: None,
            login_tokens: true,
            login_token_lifetime: Span::from_secs(2 * 60),
        }
    }
}

/// A policy that a new user has to agree to.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The version of the text, any string.
    pub version: String,
    /// What the link is called.
    pub name: String,
    /// Where the text can be read.
    pub url: String,
    /// The language of the text.
    #[serde(default = "english")]
    pub language: String,
}

fn english() -> String {
    "en".to_owned()
}

/// Traffic with other servers.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Federation {
    /// Whether there is any.
    pub enabled: bool,
    /// An additional root certificate to trust, a PEM file.
    pub ca_file: Option<PathBuf>,
    /// Whether requests may go to private address ranges.
    pub allow_private_addresses: bool,
    /// Servers that are asked for the keys of others.
    pub trusted_key_servers: Vec<OwnedServerName>,
    /// Keys that this server signed with before, so that others can still check old events.
    pub old_verify_keys: Vec<OldVerifyKey>,
}

/// A key that this server signs with no more.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct OldVerifyKey {
    /// Its id, `ed25519:a_AbCd`.
    pub id: OwnedServerSigningKeyId,
    /// The public key in base64.
    pub key: Base64,
    /// When the server stopped to sign with it, in milliseconds since the Unix epoch.
    pub expired_ts: i64,
}

impl Default for Federation {
    fn default() -> Self {
        Self {
            enabled: true,
            ca_file: None,
            allow_private_addresses: false,
            trusted_key_servers: Vec::new(),
            old_verify_keys: Vec::new(),
        }
    }
}

/// How push gateways are told what happens.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Push {
    /// Whether gateways may be reached without encryption.
    pub allow_http: bool,
    /// Whether gateways may be in private address ranges.
    pub allow_private_addresses: bool,
    /// An additional root certificate to trust, a PEM file.
    pub ca_file: Option<PathBuf>,
}

/// What new rooms are like.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rooms {
    /// The version of a room whose creator asks for none.
    pub default_version: RoomVersionId,
}

impl Default for Rooms {
    fn default() -> Self {
        Self {
            default_version: RoomVersionId::V12,
        }
    }
}

/// Sizes, times and rates that are refused when exceeded.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The largest body of a request that has no limit of its own.
    pub max_body: Size,
    /// How long a request may take that is not a long poll.
    pub request_timeout: Span,
    /// How long a connection may stay without the complete head of a request, idle ones included.
    pub header_timeout: Span,
    /// How many connections all listeners hold together.
    pub max_connections: usize,
    /// Whether the rates below count.
    pub rate_limit: bool,
    /// Logins from one address.
    pub login: Rate,
    /// New accounts from one address.
    pub registration: Rate,
    /// Events sent by one user.
    pub message: Rate,
    /// Rooms joined by one user.
    pub join: Rate,
    /// Whatever else the specification wants to be limited, together, by one user.
    pub request: Rate,
    /// Requests of one other server.
    pub federation: Rate,
    /// Invites of one user by users of other servers.
    pub invite: Rate,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body: Size::mebibytes(10),
            request_timeout: Span::from_secs(60),
            header_timeout: Span::from_secs(75),
            max_connections: 20_000,
            rate_limit: true,
            login: Rate::new(0.2, 10),
            registration: Rate::new(0.1, 5),
            message: Rate::new(5.0, 50),
            join: Rate::new(0.5, 20),
            request: Rate::new(10.0, 200),
            federation: Rate::new(100.0, 2_000),
            invite: Rate::new(0.05, 50),
        }
    }
}

/// TURN servers for calls.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Voip {
    /// `turn:turn.example.org?transport=udp` and the like.
    pub turn_uris: Vec<String>,
    /// The secret that the TURN server shares with this one.
    pub turn_shared_secret: Option<Secret>,
    /// How long credentials are valid.
    pub user_lifetime: Span,
}

impl Default for Voip {
    fn default() -> Self {
        Self {
            turn_uris: Vec::new(),
            turn_shared_secret: None,
            user_lifetime: Span::from_secs(24 * 60 * 60),
        }
    }
}

/// Whom users and other administrators can ask for help (`/.well-known/matrix/support`).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Support {
    /// People.
    pub contacts: Vec<Contact>,
    /// A page with help.
    pub page: Option<String>,
}

/// A person who can be asked for help.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Contact {
    /// `m.role.admin`, `m.role.security` or a name of one's own.
    pub role: String,
    /// The Matrix account.
    pub matrix_id: Option<OwnedUserId>,
    /// The e-mail address.
    pub email_address: Option<String>,
}

/// What `/.well-known/matrix/server` says.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WellKnown {
    /// Host and port under which peers reach this server, `matrix.example.org:443`.
    pub server: Option<OwnedServerName>,
}

/// Whether users see who is online.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Presence {
    /// Switches presence off for all when false.
    pub enabled: bool,
}

impl Default for Presence {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// How the server tells users something (specification, "Server Notices").
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct ServerNotices {
    /// The part of the sender's user id before the colon. The account is made when it is not there.
    pub localpart: String,
    /// How the sender is shown.
    #[serde(default = "server_notices")]
    pub display_name: String,
    /// What the rooms of notices are called.
    #[serde(default = "server_notices")]
    pub room_name: String,
}

fn server_notices() -> String {
    "Server notices".to_owned()
}

/// A bridge or bot that is registered as an application service.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Appservice {
    /// Its registration, a YAML file.
    pub registration: PathBuf,
}
