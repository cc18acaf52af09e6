//! Through whom users want to be told what happens (specification, "Push Notifications").

use hearth_core::{Clock, UserNid};
use hearth_journal::{Journal, WriteError};
use hearth_store::{
    account,
    pusher::{self, PusherRow, Setter, Upserted},
    write::Write,
};
use hearth_users::sessions::Session;
use ruma::{
    api::client::push::{Pusher, PusherIds, PusherKind},
    push::HttpPusherData,
};
use serde_json::Value;
use sqlx::PgPool;

/// The longest pushkey, in bytes, and the longest id of an application, in characters.
const MAX_PUSHKEY: usize = 512;
const MAX_APP_ID: usize = 64;

/// The longest of the other names, in bytes.
const MAX_NAME: usize = 512;

/// The largest `data`, in bytes.
const MAX_DATA: usize = 8 * 1024;

/// How many pushers a user has at the most.
const MAX_PUSHERS: i64 = 50;

/// The path of all gateways.
const PATH: &str = "/_matrix/push/v1/notify";

/// Why a pusher is not set.
#[derive(Debug, thiserror::Error)]
pub enum SetPusherError {
    /// The kind is not known, or not served.
    #[error("pushers of the kind {0} are not served: \"http\" is")]
    UnknownKind(String),
    /// A field is longer than it may be, or has characters that it may not have.
    #[error("{0} is too long, or has characters that it may not have")]
    BadField(&'static str),
    /// The address of the gateway is none.
    #[error("data.url must be an HTTPS URL with the path {PATH}")]
    BadUrl,
    /// The user has too many.
    #[error("a user has at most {MAX_PUSHERS} pushers")]
    TooMany,
    /// The session ended meanwhile.
    #[error("the session has ended")]
    NoSession,
    /// The database failed.
    #[error("setting a pusher failed")]
    Storage(#[from] sqlx::Error),
    /// The log failed.
    #[error("telling of a pusher failed")]
    Journal(#[from] WriteError),
}

/// Whether others keep their pushers with the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OthersPushers {
    /// They do: the device has several users.
    Keep,
    /// They do not: the device changed hands.
    Remove,
}

/// Which addresses gateways may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schemes {
    /// Those of the specification.
    Https,
    /// `http` too.
    HttpToo,
}

/// The pushers of this server's users.
#[derive(Clone, Debug)]
pub struct Pushers {
    pool: PgPool,
    journal: Journal,
    clock: Clock,
    schemes: Schemes,
}

impl Pushers {
    /// Pushers in `pool`, changes of which are told through `journal`.
    #[must_use]
    pub fn new(pool: PgPool, journal: Journal, clock: Clock, schemes: Schemes) -> Self {
        Self {
            pool,
            journal,
            clock,
            schemes,
        }
    }

    /// Lists the pushers of a user.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn list(&self, user: UserNid) -> sqlx::Result<Vec<Value>> {
        let mut conn = self.pool.acquire().await?;
        let rows = pusher::list(&mut conn, user).await?;
        rows.iter().map(shown).collect()
    }

    /// Sets a pusher, which lives as long as the session's device.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub async fn set(
        &self,
        session: &Session,
        pusher: &Pusher,
        others: OthersPushers,
    ) -> Result<(), SetPusherError> {
        let row = self.row(pusher)?;
        hearth_store::retry("set pusher", || self.set_once(session, &row, others)).await
    }

    async fn set_once(
        &self,
        session: &Session,
        row: &PusherRow,
        others: OthersPushers,
    ) -> Result<(), SetPusherError> {
        let user = session.user;
        let mut tx = self.pool.begin().await?;
        let account = account::lock(&mut tx, user).await?;
        account.ok_or(SetPusherError::NoSession)?;
        if pusher::count_others(&mut tx, user, &row.app_id, &row.pushkey).await? >= MAX_PUSHERS {
            return Err(SetPusherError::TooMany);
        }
        if others == OthersPushers::Remove {
            pusher::delete_of_others(&mut tx, user, &row.app_id, &row.pushkey).await?;
        }
        let by = Setter {
            user,
            device_id: session.device_id.as_ref().map(|id| id.as_str()),
            ts: self.clock.millis(),
        };
        match pusher::upsert(&mut tx, by, row).await? {
            Upserted::Yes => {}
            Upserted::NoDevice => return Err(SetPusherError::NoSession),
        }
        self.journal.commit(tx, told(user)).await?;
        Ok(())
    }

    /// Deletes a pusher; one that is not there is none afterwards.
    ///
    /// # Errors
    ///
    /// When the database or the log fails.
    pub async fn delete(&self, user: UserNid, ids: &PusherIds) -> Result<(), SetPusherError> {
        if [&ids.app_id, &ids.pushkey]
            .iter()
            .any(|id| id.contains('\0'))
        {
            return Ok(());
        }
        hearth_store::retry("delete pusher", || async {
            let mut tx = self.pool.begin().await?;
            account::lock(&mut tx, user).await?;
            pusher::delete(&mut tx, user, &ids.app_id, &ids.pushkey).await?;
            self.journal.commit(tx, told(user)).await?;
            Ok(())
        })
        .await
    }

    /// The row of a pusher, if nothing is wrong with it.
    fn row(&self, pusher: &Pusher) -> Result<PusherRow, SetPusherError> {
        let data = match &pusher.kind {
            PusherKind::Http(data) => data,
            PusherKind::Email(_) => return Err(SetPusherError::UnknownKind("email".to_owned())),
            other => {
                let shown = serde_json::to_value(other).unwrap_or_default();
                let kind = shown["kind"].as_str().unwrap_or_default();
                return Err(SetPusherError::UnknownKind(kind.to_owned()));
            }
        };
        let PusherIds {
            pushkey, app_id, ..
        } = &pusher.ids;
        fits(
            "pushkey",
            pushkey,
            (1..=MAX_PUSHKEY).contains(&pushkey.len()),
        )?;
        let length = app_id.chars().count();
        fits("app_id", app_id, (1..=MAX_APP_ID).contains(&length))?;
        let tag = pusher.profile_tag.as_deref().unwrap_or_default();
        for (field, value) in [
            ("app_display_name", pusher.app_display_name.as_str()),
            ("device_display_name", &pusher.device_display_name),
            ("lang", &pusher.lang),
            ("profile_tag", tag),
        ] {
            fits(field, value, value.len() <= MAX_NAME)?;
        }
        if !self.is_address(&data.url) {
            return Err(SetPusherError::BadUrl);
        }
        let data = written(data).ok_or(SetPusherError::BadField("data"))?;
        Ok(PusherRow {
            pushkey: pushkey.clone(),
            app_id: app_id.clone(),
            kind: "http".to_owned(),
            app_display_name: pusher.app_display_name.clone(),
            device_display_name: pusher.device_display_name.clone(),
            profile_tag: pusher.profile_tag.clone(),
            lang: pusher.lang.clone(),
            data,
        })
    }

    /// Whether a gateway may be at `url`.
    fn is_address(&self, url: &str) -> bool {
        let Some((scheme, rest)) = url.split_once("://") else {
            return false;
        };
        let allowed = match self.schemes {
            Schemes::Https => scheme.eq_ignore_ascii_case("https"),
            Schemes::HttpToo => {
                scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http")
            }
        };
        let Some((authority, path)) = rest.split_once('/') else {
            return false;
        };
        // Anything after the path is left to the gateway, as far as a query goes.
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        allowed
            && !authority.is_empty()
            && !authority.contains('@')
            && PATH[1..] == *path
            && !url.contains(|c: char| c.is_control() || c.is_whitespace() || c == '#')
            && url.is_ascii()
    }
}

fn fits(field: &'static str, value: &str, is_short: bool) -> Result<(), SetPusherError> {
    match is_short && !value.contains('\0') {
        true => Ok(()),
        false => Err(SetPusherError::BadField(field)),
    }
}

/// `data` as it is stored; `None` when there is too much of it.
fn written(data: &HttpPusherData) -> Option<String> {
    let written = serde_json::to_string(data).ok()?;
    (written.len() <= MAX_DATA).then_some(written)
}

fn told(user: UserNid) -> Write {
    Write {
        pushers: vec![user],
        ..Write::default()
    }
}

/// A pusher as `GET /pushers` shows it.
fn shown(row: &PusherRow) -> sqlx::Result<Value> {
    let data: Value =
        serde_json::from_str(&row.data).map_err(|error| sqlx::Error::Decode(error.into()))?;
    let mut shown = serde_json::json!({
        "pushkey": row.pushkey,
        "app_id": row.app_id,
        "kind": row.kind,
        "app_display_name": row.app_display_name,
        "device_display_name": row.device_display_name,
        "lang": row.lang,
        "data": data,
    });
    if let Some(tag) = &row.profile_tag {
        shown["profile_tag"] = tag.as_str().into();
    }
    Ok(shown)
}
