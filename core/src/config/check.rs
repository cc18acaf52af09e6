//! Judging: what can be read and still makes no sense.

use super::{
    Config, Role, Storage,
    load::Loader,
    sections::{Limits, Registration, Sessions},
    surroundings::{Email, Redis},
    units::{Bind, Secret, Size, Span},
};
use crate::SUPPORTED_ROOM_VERSIONS;

/// The largest event, with which a body limit must not interfere.
const LARGEST_EVENT: usize = 65_536;

/// Refuses, by way of `loader`, all that makes no sense in `config`.
pub(super) fn check(config: &Config, loader: &mut Loader<'_>) {
    check_names(config, loader);
    check_listeners(config, loader);
    check_services(config, loader);
    check_registration(&config.registration, loader);
    check_limits(&config.limits, loader);
    check_sessions(&config.sessions, loader);
    check_voip(config, loader);
    check_rooms(config, loader);
    check_server_notices(config, loader);
    check_log_level(&config.log.level, loader);
    for (index, contact) in config.support.contacts.iter().enumerate() {
        if contact.matrix_id.is_none() && contact.email_address.is_none() {
            loader.refuse(
                &["support", "contacts", &index.to_string()],
                "a contact needs matrix_id or email_address",
            );
        }
    }
    if let Some(page) = &config.support.page {
        refuse_unless_web(&["support", "page"], page, loader);
    }
}

fn check_names(config: &Config, loader: &mut Loader<'_>) {
    // A user id may have 255 bytes, of which some are for the user.
    if config.server_name.as_str().len() > 230 {
        loader.refuse(&["server_name"], "longer than 230 characters");
    }
    if let Some(url) = &config.public_baseurl {
        refuse_unless_web(&["public_baseurl"], url, loader);
        if url.contains(['?', '#']) {
            loader.refuse(
                &["public_baseurl"],
                "an address without ? and # is expected",
            );
        }
    }
    let own = &config.server_name;
    for (index, name) in config.federation.trusted_key_servers.iter().enumerate() {
        if name == own {
            let path = ["federation", "trusted_key_servers", &index.to_string()];
            loader.refuse(&path, "this is the server itself");
        }
    }
    if config.roles.is_empty() {
        loader.refuse(&["roles"], "a process without a role does nothing");
    }
}

fn check_rooms(config: &Config, loader: &mut Loader<'_>) {
    let version = &config.rooms.default_version;
    if !SUPPORTED_ROOM_VERSIONS.contains(version) {
        let known = SUPPORTED_ROOM_VERSIONS.map(|version| version.to_string());
        let reason = format!("{:?} is none of {}", version.as_str(), known.join(", "));
        loader.refuse(&["rooms", "default_version"], reason);
    }
}

fn check_server_notices(config: &Config, loader: &mut Loader<'_>) {
    let Some(notices) = &config.server_notices else {
        return;
    };
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._=-/+".contains(c);
    let localpart = &notices.localpart;
    if !(1..=24).contains(&localpart.len()) || !localpart.chars().all(allowed) {
        let reason = "1 to 24 of the characters a-z 0-9 . _ = - / + are expected";
        loader.refuse(&["server_notices", "localpart"], reason);
    }
}

fn check_listeners(config: &Config, loader: &mut Loader<'_>) {
    if config.listen.is_empty() && config.does(Role::Http) {
        loader.refuse(&["listen"], "no address to listen on");
    }
    let mut seen: Vec<&Bind> = Vec::new();
    for (index, listener) in config.listen.iter().enumerate() {
        if seen.contains(&&listener.bind) && !is_any_port(&listener.bind) {
            let path = ["listen", &index.to_string(), "bind"];
            loader.refuse(&path, format!("{} is used twice", listener.bind));
        }
        seen.push(&listener.bind);
    }
    if let Some(bind) = &config.metrics.bind
        && seen.contains(&bind)
        && !is_any_port(bind)
    {
        let reason = format!("{bind} is a listener for clients");
        loader.refuse(&["metrics", "bind"], reason);
    }
}

/// Whether the system chooses the port.
fn is_any_port(bind: &Bind) -> bool {
    matches!(bind, Bind::Tcp(address) if address.port() == 0)
}

fn check_services(config: &Config, loader: &mut Loader<'_>) {
    let database = &config.database;
    let postgres = ["postgres://", "postgresql://"];
    refuse_unless_scheme(
        &["database", "url"],
        database.url.as_ref(),
        &postgres,
        loader,
    );
    let direct = database.direct_url.as_ref();
    refuse_unless_scheme(&["database", "direct_url"], direct, &postgres, loader);
    if database.url.is_none() && database.direct_url.is_some() {
        loader.refuse(
            &["database", "direct_url"],
            "of no use without database.url",
        );
    }
    if database.max_connections < 2 {
        loader.refuse(&["database", "max_connections"], "at least 2 are needed");
    }
    if database.acquire_timeout < Span::from_secs(1) {
        loader.refuse(&["database", "acquire_timeout"], "at least 1 s is needed");
    }
    if let Some(Redis { url }) = &config.redis {
        let schemes = ["redis://", "rediss://", "redis+unix://", "unix://"];
        refuse_unless_scheme(&["redis", "url"], Some(url), &schemes, loader);
    }
    if let Some(Email { smtp, from }) = &config.email {
        let schemes = ["smtp://", "smtps://"];
        refuse_unless_scheme(&["email", "smtp"], Some(smtp), &schemes, loader);
        if !from.contains('@') {
            loader.refuse(&["email", "from"], "this is no e-mail address");
        }
    }
    if let Storage::S3(s3) = &config.media.storage {
        if let Some(endpoint) = &s3.endpoint {
            refuse_unless_web(&["media", "storage", "endpoint"], endpoint, loader);
        }
        if s3.bucket.is_empty() {
            loader.refuse(&["media", "storage", "bucket"], "the name is empty");
        }
    }
}

fn check_registration(registration: &Registration, loader: &mut Loader<'_>) {
    if let Some(secret) = &registration.shared_secret
        && secret.expose().is_empty()
    {
        loader.refuse(&["registration", "shared_secret"], "the secret is empty");
    }
    if let Some(token) = &registration.token {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._~-".contains(c);
        if !(1..=64).contains(&token.expose().len()) || !token.expose().chars().all(allowed) {
            loader.refuse(
                &["registration", "token"],
                "a token has 1 to 64 characters of a-z A-Z 0-9 . _ ~ -",
            );
        }
    }
    for (id, policy) in &registration.terms {
        refuse_unless_web(&["registration", "terms", id, "url"], &policy.url, loader);
    }
}

fn check_sessions(sessions: &Sessions, loader: &mut Loader<'_>) {
    let spans = [
        (
            "access_token_lifetime",
            Some(sessions.access_token_lifetime),
        ),
        ("refresh_token_lifetime", sessions.refresh_token_lifetime),
        ("login_token_lifetime", Some(sessions.login_token_lifetime)),
    ];
    for (name, span) in spans {
        if span.is_some_and(|span| span < Span::from_secs(10)) {
            loader.refuse(&["sessions", name], "shorter than 10 s");
        }
    }
    if sessions
        .refresh_token_lifetime
        .is_some_and(|refresh| refresh <= sessions.access_token_lifetime)
    {
        loader.refuse(
            &["sessions", "refresh_token_lifetime"],
            "no longer than access_token_lifetime, so that nobody could refresh in time",
        );
    }
}

fn check_limits(limits: &Limits, loader: &mut Loader<'_>) {
    let rates = [
        ("login", limits.login),
        ("registration", limits.registration),
        ("message", limits.message),
        ("join", limits.join),
        ("request", limits.request),
    ];
    for (name, rate) in rates {
        if !(rate.per_second >= 0.000_001 && rate.per_second <= 1_000_000.0) {
            let path = ["limits", name, "per_second"];
            loader.refuse(&path, "expected a number between 0.000001 and 1000000");
        }
    }
    if limits.max_body.bytes() < LARGEST_EVENT {
        let reason = format!("smaller than an event may be ({LARGEST_EVENT} bytes)");
        loader.refuse(&["limits", "max_body"], reason);
    }
    if limits.max_body > Size::mebibytes(1024) {
        loader.refuse(&["limits", "max_body"], "larger than 1 GiB");
    }
    for (name, span) in [
        ("request_timeout", limits.request_timeout),
        ("header_timeout", limits.header_timeout),
    ] {
        if span < Span::from_secs(1) {
            loader.refuse(&["limits", name], "shorter than 1 s");
        }
    }
    if limits.max_connections == 0 {
        loader.refuse(&["limits", "max_connections"], "no connection is allowed");
    }
}

/// Refuses a misspelt level, which would otherwise be taken for the name of a module.
fn check_log_level(level: &str, loader: &mut Loader<'_>) {
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    for directive in level.split(',').map(str::trim) {
        let word = directive
            .rsplit_once('=')
            .map_or(directive, |(_, word)| word);
        if !levels.iter().any(|level| word.eq_ignore_ascii_case(level)) {
            let reason = format!("{word:?} is none of {}", levels.join(", "));
            loader.refuse(&["log", "level"], reason);
        }
    }
}

fn check_voip(config: &Config, loader: &mut Loader<'_>) {
    let voip = &config.voip;
    for (index, uri) in voip.turn_uris.iter().enumerate() {
        if !["turn:", "turns:", "stun:", "stuns:"]
            .iter()
            .any(|s| uri.starts_with(s))
        {
            let path = ["voip", "turn_uris", &index.to_string()];
            loader.refuse(&path, "expected turn:, turns:, stun: or stuns: and a host");
        }
    }
    match (voip.turn_uris.is_empty(), &voip.turn_shared_secret) {
        (false, None) => loader.refuse(&["voip", "turn_uris"], "turn_shared_secret is missing"),
        (true, Some(_)) => loader.refuse(&["voip", "turn_shared_secret"], "turn_uris is missing"),
        (false, Some(_)) | (true, None) => {}
    }
    if voip.user_lifetime < Span::from_secs(60) {
        loader.refuse(&["voip", "user_lifetime"], "shorter than 1 m");
    }
}

fn refuse_unless_web(path: &[&str], url: &str, loader: &mut Loader<'_>) {
    let host = url.strip_prefix("https://").or(url.strip_prefix("http://"));
    let starts_well = |host: &str| host.starts_with(|c: char| c.is_alphanumeric() || c == '[');
    if !host.is_some_and(starts_well) || url.contains(char::is_whitespace) {
        let reason = format!("{url:?} is not an address such as \"https://example.org\"");
        loader.refuse(path, reason);
    }
}

/// The address may hold a password, so that it is not repeated.
fn refuse_unless_scheme(
    path: &[&str],
    url: Option<&Secret>,
    schemes: &[&str],
    loader: &mut Loader<'_>,
) {
    if let Some(url) = url
        && !schemes
            .iter()
            .any(|scheme| url.expose().starts_with(scheme))
    {
        loader.refuse(
            path,
            format!("the address begins with none of {}", schemes.join(", ")),
        );
    }
}
