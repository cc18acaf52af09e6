//! What users tell about themselves.

use std::time::Duration;

use axum::{
    Json,
    extract::{FromRef, State},
};
use hearth_federation::Others;
use hearth_rooms::MemberProfiles;
use hearth_users::{Accounts, Profiles, profiles::ProfileError};
use ruma::{
    OwnedServerName, OwnedUserId, UserId,
    api::{
        client::profile::{
            delete_profile_field, get_profile, get_profile_field, set_profile_field,
        },
        error::ErrorKind,
    },
};
use serde_json::{Map, Value};

use super::{ClientState, Requester, requester::Counted};
use crate::http::{Action, Api, ApiError, Object, RateLimits, Ruma};

/// How long a request waits until the new profile stands in the user's rooms; after that it spreads in the background.
const PATIENCE: Duration = Duration::from_secs(2);

/// An object without keys.
type Empty = Json<Map<String, Value>>;

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    Api::new()
        .endpoint(get_profile)
        .read_by_hand::<get_profile_field::v3::Request, _>(get_profile_field)
        .read_by_hand::<set_profile_field::v3::Request, _>(set_profile_field)
        .read_by_hand::<delete_profile_field::v3::Request, _>(delete_profile_field)
}

/// Users of other servers.
#[derive(Clone, Debug)]
struct Abroad(Option<Others>, OwnedServerName);

impl FromRef<ClientState> for Abroad {
    fn from_ref(state: &ClientState) -> Self {
        let outside = state.outside.as_ref();
        let others = outside.map(|outside| outside.others.clone());
        Self(others, state.config.server_name.clone())
    }
}

impl Abroad {
    /// What the server of a user tells of him; `None` for a user of this server.
    async fn profile(
        &self,
        user_id: &UserId,
        field: Option<&str>,
    ) -> Result<Option<Map<String, Value>>, ApiError> {
        let Self(others, own) = self;
        if user_id.server_name() == own {
            return Ok(None);
        }
        let others = others.as_ref().ok_or_else(no_profile)?;
        let fields = others.profile(user_id, field).await?;
        fields.map(Some).ok_or_else(no_profile)
    }
}

fn no_profile() -> ApiError {
    ApiError::not_found("there is no such profile")
}

/// `GET /_matrix/client/*/profile/{userId}`
async fn get_profile(
    State(accounts): State<Accounts>,
    State(profiles): State<Profiles>,
    State(abroad): State<Abroad>,
    _: Counted,
    Ruma(request): Ruma<get_profile::v3::Request>,
) -> Result<Ruma<get_profile::v3::Response>, ApiError> {
    if let Some(fields) = abroad.profile(&request.user_id, None).await? {
        return Ok(Ruma(fields.into_iter().collect()));
    }
    let account = accounts.find(&request.user_id).await?;
    let account = account.ok_or_else(no_profile)?;

    let fields = profiles.list(account.user).await?;

    Ok(Ruma(fields.into_iter().collect()))
}

/// `GET /_matrix/client/*/profile/{userId}/{keyName}`
async fn get_profile_field(
    State(accounts): State<Accounts>,
    State(profiles): State<Profiles>,
    State(abroad): State<Abroad>,
    _: Counted,
    request: Object,
) -> Result<Empty, ApiError> {
    let user_id: OwnedUserId = request.argument(0)?;
    let key: &str = request.argument(1)?;
    let value = match abroad.profile(&user_id, Some(key)).await? {
        Some(mut fields) => fields.remove(key),
        None => {
            let account = accounts.find(&user_id).await?.ok_or_else(no_profile)?;
            profiles.find(account.user, key).await?
        }
    };

    let value = value.ok_or_else(|| ApiError::not_found("the profile has no such field"))?;
    Ok(Json(Map::from_iter([(key.to_owned(), value)])))
}

/// `PUT /_matrix/client/*/profile/{userId}/{keyName}`
///
/// Not read by `ruma`, which wants text in the fields that it knows, so that they could not be emptied.
async fn set_profile_field(
    State(profiles): State<Profiles>,
    State(members): State<MemberProfiles>,
    State(limits): State<RateLimits>,
    requester: Requester,
    request: Object,
) -> Result<Empty, ApiError> {
    limits.check_user(Action::Message, requester.user_id())?;
    let key = own_field(&requester, &request)?;
    let value = request.body.get(key).ok_or_else(|| {
        ApiError::bad_request(ErrorKind::MissingParam, "the body lacks the field's key")
    })?;
    let is_shown = is_shown(key);
    if is_shown {
        members.announce(requester.user).await?;
    }
    let outcome = profiles.set(requester.user, key, value).await;
    if is_shown {
        members.spread(requester.user, PATIENCE).await;
    }
    outcome?;
    Ok(Json(Map::new()))
}

/// `DELETE /_matrix/client/*/profile/{userId}/{keyName}`
async fn delete_profile_field(
    State(profiles): State<Profiles>,
    State(members): State<MemberProfiles>,
    State(limits): State<RateLimits>,
    requester: Requester,
    request: Object,
) -> Result<Empty, ApiError> {
    limits.check_user(Action::Message, requester.user_id())?;
    let key = own_field(&requester, &request)?;
    let is_shown = is_shown(key);
    if is_shown {
        members.announce(requester.user).await?;
    }
    let outcome = profiles.remove(requester.user, key).await;
    if is_shown {
        members.spread(requester.user, PATIENCE).await;
    }
    outcome?;
    Ok(Json(Map::new()))
}

/// The field that a request is about, if the requester may change it.
fn own_field<'a>(requester: &Requester, request: &'a Object) -> Result<&'a str, ApiError> {
    let user_id: &UserId = request.argument(0)?;
    requester.refuse_other(user_id)?;
    requester.refuse_suspended()?;
    request.argument(1)
}

/// Whether member events show the field.
fn is_shown(key: &str) -> bool {
    matches!(key, "displayname" | "avatar_url")
}

impl From<ProfileError> for ApiError {
    fn from(error: ProfileError) -> Self {
        let message = error.to_string();
        match error {
            ProfileError::InvalidKey | ProfileError::InvalidValue(_) => {
                Self::invalid_param(message)
            }
            ProfileError::KeyTooLong => Self::bad_request(ErrorKind::KeyTooLarge, message),
            ProfileError::TooLarge => Self::bad_request(ErrorKind::ProfileTooLarge, message),
            ProfileError::NoAccount => Self::not_found(message),
            ProfileError::Storage(error) => error.into(),
        }
    }
}
