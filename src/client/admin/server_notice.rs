//! `/_synapse/admin/v1/send_server_notice`: administrators tell users something in the server's name.

use axum::{Json, extract::State};
use hearth_rooms::{Draft, Transaction};
use http::Method;
use ruma::{CanonicalJsonObject, OwnedUserId, api::error::ErrorKind, events::TimelineEventType};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    client::{ClientState, Requester},
    http::{Api, ApiError, Authentication, Object},
    server_notices::{NoticeError, ServerNotices},
};

const PATH: &str = "/_synapse/admin/v1/send_server_notice";

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    let token = Authentication::AccessToken;
    let with_transaction = format!("{PATH}/{{txnId}}");
    Api::new().route(Method::POST, PATH, token, send).route(
        Method::PUT,
        &with_transaction,
        token,
        send,
    )
}

/// What an administrator sends.
#[derive(Deserialize)]
struct Notice {
    user_id: OwnedUserId,
    content: CanonicalJsonObject,
    #[serde(rename = "type", default = "message")]
    kind: TimelineEventType,
    state_key: Option<String>,
}

fn message() -> TimelineEventType {
    TimelineEventType::RoomMessage
}

/// `POST` or, with a transaction id, `PUT /_synapse/admin/v1/send_server_notice`
async fn send(
    State(notices): State<ServerNotices>,
    requester: Requester,
    request: Object,
) -> Result<Json<Value>, ApiError> {
    if !requester.admin {
        return Err(ApiError::forbidden("only administrators send notices"));
    }
    let transaction = request.arguments.first().map(|txn_id| Transaction {
        user: requester.user,
        device_id: requester
            .device_id()
            .map(ToString::to_string)
            .unwrap_or_default(),
        action: "send_server_notice".to_owned(),
        txn_id: txn_id.clone(),
    });
    let notice: Notice = serde_json::from_value(request.body.into())?;
    let draft = match notice.state_key {
        Some(state_key) => Draft::state(notice.kind, state_key, notice.content),
        None => Draft::message(notice.kind, notice.content),
    };
    let event_id = notices.send(&notice.user_id, draft, transaction).await?;

    Ok(Json(json!({ "event_id": event_id })))
}

impl From<NoticeError> for ApiError {
    fn from(error: NoticeError) -> Self {
        match error {
            NoticeError::Off => Self::bad_request(ErrorKind::Unknown, error.to_string()),
            NoticeError::NoSuchUser => Self::not_found(error.to_string()),
            NoticeError::Room(error) => error.into(),
            NoticeError::Invite(error) => error.into(),
            NoticeError::Tag(error) => error.into(),
            NoticeError::Event(error) => error.into(),
        }
    }
}
