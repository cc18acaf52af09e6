//! `/pushers`

use axum::{Json, extract::State};
use hearth_push::{OthersPushers, Pushers, SetPusherError};
use ruma::api::{
    client::push::{
        get_pushers,
        set_pusher::{
            self,
            v3::{PusherAction, PusherPostData},
        },
    },
    error::ErrorKind,
};
use serde_json::{Value, json};

use crate::{
    client::{ClientState, Requester},
    http::{Api, ApiError, Object, Ruma, error::SoftLogout},
};

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    Api::new()
        .endpoint(get_pushers)
        .read_by_hand::<set_pusher::v3::Request, _>(set_pusher)
}

/// `GET /_matrix/client/*/pushers`
async fn get_pushers(
    State(pushers): State<Pushers>,
    requester: Requester,
    _: Ruma<get_pushers::v3::Request>,
) -> Result<Json<Value>, ApiError> {
    let pushers = pushers.list(requester.user).await?;

    Ok(Json(json!({ "pushers": pushers })))
}

/// `POST /_matrix/client/*/pushers/set`
async fn set_pusher(
    State(pushers): State<Pushers>,
    requester: Requester,
    Object { body, .. }: Object,
) -> Result<Ruma<set_pusher::v3::Response>, ApiError> {
    // Only `null` deletes; `ruma` takes an absent kind for it.
    if !body.contains_key("kind") {
        return Err(ApiError::bad_request(
            ErrorKind::MissingParam,
            "kind is missing",
        ));
    }
    match serde_json::from_value(Value::Object(body))? {
        PusherAction::Post(PusherPostData { pusher, append, .. }) => {
            let others = match append {
                true => OthersPushers::Keep,
                false => OthersPushers::Remove,
            };
            pushers.set(&requester, &pusher, others).await?;
        }
        PusherAction::Delete(ids) => pushers.delete(requester.user, &ids).await?,
        _ => return Err(ApiError::invalid_param("kind is neither a string nor null")),
    }

    Ok(Ruma(set_pusher::v3::Response::new()))
}

impl From<SetPusherError> for ApiError {
    fn from(error: SetPusherError) -> Self {
        match error {
            SetPusherError::UnknownKind(_)
            | SetPusherError::BadField(_)
            | SetPusherError::BadUrl
            | SetPusherError::TooMany => {
                Self::bad_request(ErrorKind::InvalidParam, error.to_string())
            }
            SetPusherError::NoSession => Self::unknown_token(SoftLogout::No),
            SetPusherError::Storage(error) => error.into(),
            SetPusherError::Journal(error) => error.into(),
        }
    }
}
