//! Who makes a request.

use std::{ops::Deref, sync::Arc};

use axum::extract::{FromRef, FromRequestParts};
use hearth_users::{
    Session, Sessions,
    sessions::{AuthError, Standing},
};
use http::{StatusCode, header, request::Parts};
use ruma::{DeviceId, UserId, api::error::ErrorKind};

use super::guests;
use crate::http::{Action, ApiError, ClientAddress, RateLimits, api::Metered, error::SoftLogout};

/// The user behind the access token, whose account is not locked.
///
/// Suspended users are let through: a handler that does what they may not do asks
/// [`Requester::refuse_suspended`].
#[derive(Clone, Debug)]
pub struct Requester(pub Arc<Session>);

/// The user behind the access token, whose account may be locked: for logging out.
#[derive(Clone, Debug)]
pub struct AnyRequester(pub Arc<Session>);

/// The user behind the access token, if there is one.
#[derive(Clone, Debug)]
pub struct OptionalRequester(pub Option<Requester>);

/// Anybody, counted by user or else by address: for what needs no token and may make this server ask another one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted;

impl Requester {
    /// The user.
    #[must_use]
    pub fn user_id(&self) -> &UserId {
        &self.0.user_id
    }

    /// The device, unless an administrator made the token.
    #[must_use]
    pub fn device_id(&self) -> Option<&DeviceId> {
        self.0.device_id.as_deref()
    }

    /// Refuses what suspended users may not do (specification, "Account suspension"): join, knock, invite, send,
    /// change the profile, redact what others sent.
    ///
    /// # Errors
    ///
    /// `M_USER_SUSPENDED`.
    pub fn refuse_suspended(&self) -> Result<(), ApiError> {
        match self.0.standing {
            Standing::Good => Ok(()),
            Standing::Suspended | Standing::Locked => Err(ApiError::new(
                StatusCode::FORBIDDEN,
                ErrorKind::UserSuspended,
                "you cannot do this while your account is suspended",
            )),
        }
    }

    /// Refuses to act for somebody else.
    ///
    /// # Errors
    ///
    /// `M_FORBIDDEN` when `user_id` is another user.
    pub fn refuse_other(&self, user_id: &UserId) -> Result<(), ApiError> {
        if self.user_id() == user_id {
            Ok(())
        } else {
            Err(ApiError::forbidden("you cannot do this for another user"))
        }
    }
}

impl Deref for Requester {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.0
    }
}

impl<S: Send + Sync> FromRequestParts<S> for AnyRequester
where
    Sessions: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let token = access_token(parts).ok_or_else(ApiError::missing_token)?;
        let sessions = Sessions::from_ref(state);
        // Tokens of application services belong here, before those of users.
        let session = sessions.authenticate(token).await?;
        let address = ClientAddress::from_request_parts(parts, state).await;
        let address = address.unwrap_or_default();
        let user_agent = parts.headers.get(header::USER_AGENT);
        let user_agent = user_agent.and_then(|value| value.to_str().ok());
        sessions.note_seen(&session, address.ip(), user_agent);
        Ok(Self(session))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Requester
where
    Sessions: FromRef<S>,
    RateLimits: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let AnyRequester(session) = AnyRequester::from_request_parts(parts, state).await?;
        if session.guest {
            guests::check(parts)?;
        }
        if parts.extensions.get::<Metered>().is_some() {
            RateLimits::from_ref(state).check_user(Action::Request, &session.user_id)?;
        }
        unlocked(session).map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for OptionalRequester
where
    Sessions: FromRef<S>,
    RateLimits: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        if access_token(parts).is_none() {
            Counted::from_request_parts(parts, state).await?;
            return Ok(Self(None));
        }
        // Guests may do what everybody may.
        let AnyRequester(session) = AnyRequester::from_request_parts(parts, state).await?;
        RateLimits::from_ref(state).check_user(Action::Request, &session.user_id)?;
        let session = unlocked(session)?;
        Ok(Self(Some(Requester(session))))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Counted
where
    Sessions: FromRef<S>,
    RateLimits: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let limits = RateLimits::from_ref(state);
        let session = match access_token(parts) {
            Some(token) => Sessions::from_ref(state).authenticate(token).await.ok(),
            None => None,
        };
        match session {
            Some(session) => limits.check_user(Action::Request, &session.user_id)?,
            None => {
                let address = ClientAddress::from_request_parts(parts, state).await;
                limits.check_address(Action::Request, address.unwrap_or_default())?;
            }
        }
        Ok(Self)
    }
}

/// The session, unless its account is locked.
///
/// # Errors
///
/// `M_USER_LOCKED`.
pub(super) fn unlocked(session: Arc<Session>) -> Result<Arc<Session>, ApiError> {
    match session.standing {
        Standing::Good | Standing::Suspended => Ok(session),
        Standing::Locked => Err(locked()),
    }
}

/// 401 `M_USER_LOCKED`, which keeps the client's keys.
pub(super) fn locked() -> ApiError {
    ApiError::new(
        StatusCode::UNAUTHORIZED,
        ErrorKind::UserLocked,
        "this account has been locked",
    )
}

/// The access token of a request: `Authorization: Bearer …`, or as clients of old say it, `?access_token=…`.
fn access_token(parts: &Parts) -> Option<&str> {
    if let Some(value) = parts.headers.get(header::AUTHORIZATION) {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        let token = token.trim();
        return (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token);
    }
    let query = parts.uri.query()?;
    query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("access_token="))
        .find(|token| !token.is_empty())
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Unknown => Self::unknown_token(SoftLogout::No),
            AuthError::Expired => Self::unknown_token(SoftLogout::Yes),
            AuthError::Storage(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn token(uri: &str, header: Option<&str>) -> Option<String> {
        let mut request = Request::get(uri);
        if let Some(header) = header {
            request = request.header("authorization", header);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        access_token(&parts).map(str::to_owned)
    }

    #[test]
    fn the_token_is_in_the_header_or_in_the_query() {
        assert_eq!(token("/x", Some("Bearer abc")).as_deref(), Some("abc"));
        assert_eq!(token("/x", Some("bearer  abc")).as_deref(), Some("abc"));
        assert_eq!(
            token("/x?a=b&access_token=abc", None).as_deref(),
            Some("abc")
        );
        assert_eq!(token("/x", Some("Bearer ")), None);
        assert_eq!(token("/x", Some("Basic abc")), None);
        assert_eq!(token("/x?access_token=", None), None);
    }
}
