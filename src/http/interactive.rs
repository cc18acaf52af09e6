//! Requests that need user-interactive authentication.

use std::marker::PhantomData;

use axum::extract::{FromRequest, Request};
use hearth_users::{
    Session, Uia,
    accounts::NewPassword,
    uia::{Action, Attempt, Challenge, Failure, Purpose, UiaError},
};
use http::{StatusCode, header, request::Parts};
use ruma::api::{
    IncomingRequest, IncomingRequestExt as _,
    client::uiaa::{AuthFlow, AuthType, UiaaInfo},
    error::{ErrorKind, StandardErrorBody},
};
use serde_json::{Map, Value, value::to_raw_value};

use super::{
    error::ApiError,
    ruma::{path_arguments, read},
};

/// A request of `ruma` that is read only when the user is authenticated, as the last argument of a handler.
///
/// Later requests of one authentication need not repeat what the first one said, so that none of them alone has to
/// have the shape of `T`.
#[derive(Debug)]
pub struct Interactive<T> {
    parts: Parts,
    arguments: Vec<String>,
    body: Map<String, Value>,
    request: PhantomData<fn() -> T>,
}

/// A request whose user is authenticated.
#[derive(Debug)]
pub struct Authenticated<T> {
    /// The request. Passwords that it sets are not in it.
    pub request: T,
    /// The password that it sets.
    pub new_password: Option<NewPassword>,
    /// The registration token that it uses up.
    pub registration_token: Option<String>,
}

impl<T: IncomingRequest, S: Send + Sync> FromRequest<S> for Interactive<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        let arguments = path_arguments(&mut parts, state).await?;
        let (parts, body) = read(Request::from_parts(parts, body), state).await?;
        Ok(Self {
            parts,
            arguments,
            body: serde_json::from_slice(&body)?,
            request: PhantomData,
        })
    }
}

impl<T: IncomingRequest> Interactive<T> {
    /// Whether the client authenticates or tries to.
    #[must_use]
    pub fn has_auth(&self) -> bool {
        self.has_field("auth")
    }

    /// Whether the request bears a token, of whatever kind.
    #[must_use]
    pub fn has_token(&self) -> bool {
        self.parts.headers.contains_key(header::AUTHORIZATION)
    }

    /// Whether the body has a field of this name.
    #[must_use]
    pub fn has_field(&self, name: &str) -> bool {
        self.body.contains_key(name)
    }

    /// Reads the request as it is, without looking at `auth`.
    ///
    /// # Errors
    ///
    /// `M_BAD_JSON` and the like when it has not the shape of `T`.
    pub fn peek(&self) -> Result<T, ApiError> {
        let mut body = self.body.clone();
        body.remove("auth");
        self.parse(&body)
    }

    /// Checks that `requester`, who has an account, is authenticated for this request.
    ///
    /// # Errors
    ///
    /// 401 with what is left to do; what else is wrong with the request.
    pub async fn authenticate(
        self,
        uia: &Uia,
        requester: &Session,
    ) -> Result<Authenticated<T>, ApiError> {
        self.check(uia, Some(requester), Purpose::Account).await
    }

    /// Checks that somebody who wants an account may register.
    ///
    /// # Errors
    ///
    /// 401 with what is left to do; what else is wrong with the request.
    pub async fn authenticate_registration(self, uia: &Uia) -> Result<Authenticated<T>, ApiError> {
        self.check(uia, None, Purpose::Registration).await
    }

    async fn check(
        mut self,
        uia: &Uia,
        requester: Option<&Session>,
        purpose: Purpose,
    ) -> Result<Authenticated<T>, ApiError> {
        let attempt = match self.body.remove("auth") {
            None | Some(Value::Null) => None,
            Some(auth) => Some(serde_json::from_value::<Attempt>(auth)?),
        };
        let name = format!("{} {}", self.parts.method, self.parts.uri.path());
        let action = Action {
            name: &name,
            requester,
            purpose,
        };
        let body = std::mem::take(&mut self.body);
        let granted = uia.check(action, attempt, body).await?;
        Ok(Authenticated {
            request: self.parse(&granted.body)?,
            new_password: granted.new_password,
            registration_token: granted.registration_token,
        })
    }

    fn parse(&self, body: &Map<String, Value>) -> Result<T, ApiError> {
        let body = serde_json::to_vec(body)?;
        let mut request = http::Request::new(body.as_slice());
        *request.method_mut() = self.parts.method.clone();
        *request.uri_mut() = self.parts.uri.clone();
        *request.headers_mut() = self.parts.headers.clone();
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        Ok(T::try_from_http_request(request, &arguments)?)
    }
}

impl From<UiaError> for ApiError {
    fn from(error: UiaError) -> Self {
        match error {
            UiaError::Challenge(challenge) => Self::uiaa(info(*challenge)),
            UiaError::OtherAction => Self::forbidden("the session was begun for something else"),
            UiaError::OtherUser => Self::forbidden("another user authenticated"),
            UiaError::RegistrationClosed => Self::new(
                StatusCode::FORBIDDEN,
                ErrorKind::Forbidden,
                "registration is closed",
            ),
            UiaError::Storage(error) => error.into(),
            UiaError::Hash(_) => Self::internal(error),
        }
    }
}

/// The challenge as clients read it.
fn info(challenge: Challenge) -> UiaaInfo {
    let flow = |stages: Vec<hearth_users::uia::Stage>| {
        AuthFlow::new(
            stages
                .iter()
                .map(|stage| AuthType::from(stage.name()))
                .collect(),
        )
    };
    let mut info = UiaaInfo::new(challenge.flows.into_iter().map(flow).collect());
    info.params = to_raw_value(&challenge.params).ok();
    info.session = Some(challenge.session);
    info.completed = challenge
        .completed
        .into_iter()
        .map(AuthType::from)
        .collect();
    info.auth_error = challenge.failure.map(|failure| {
        let kind = match failure {
            Failure::WrongPassword | Failure::InvalidRegistrationToken => ErrorKind::Forbidden,
            Failure::Incomplete => ErrorKind::MissingParam,
            Failure::WrongStage | Failure::SessionOver => ErrorKind::Unknown,
        };
        Box::new(StandardErrorBody::new(kind, failure.to_string()))
    });
    info
}
