//! Pushers, push rules, and what notified a user.

mod pushers;
mod rules;

use axum::{Json, extract::State};
use hearth_push::{Notification, Notifications, NotificationsError, Wanted};
use ruma::api::client::push::get_notifications;
use serde_json::{Value, json};

use super::{ClientState, reader::Reader};
use crate::http::{Api, ApiError, Ruma};

/// How many notifications a page has when the client does not say.
const DEFAULT_LIMIT: usize = 50;

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    rules::api()
        .merge(pushers::api())
        .endpoint(get_notifications)
}

/// `GET /_matrix/client/*/notifications`
async fn get_notifications(
    State(notifications): State<Notifications>,
    Reader(receiver): Reader,
    Ruma(request): Ruma<get_notifications::v3::Request>,
) -> Result<Json<Value>, ApiError> {
    let wanted = match request.only.as_deref() {
        Some(only) if only.split(',').any(|only| only.trim() == "highlight") => Wanted::Highlights,
        Some(_) | None => Wanted::All,
    };
    let limit = request.limit.map_or(DEFAULT_LIMIT, |limit| {
        usize::try_from(u64::from(limit)).unwrap_or(usize::MAX)
    });
    let from = request.from.as_deref();

    let page = notifications.list(&receiver, from, limit, wanted).await?;

    let mut body = json!({
        "notifications": page.notifications.iter().map(written).collect::<Vec<_>>(),
    });
    if let Some(next) = page.next {
        body["next_token"] = next.into();
    }
    Ok(Json(body))
}

fn written(notification: &Notification) -> Value {
    let event = &notification.event;
    json!({
        "actions": notification.actions,
        "event": event,
        "read": notification.read,
        "room_id": notification.room_id,
        "ts": event.event().pdu.origin_server_ts,
    })
}

impl From<NotificationsError> for ApiError {
    fn from(error: NotificationsError) -> Self {
        match error {
            NotificationsError::BadToken => Self::invalid_param(error.to_string()),
            NotificationsError::Storage(error) => error.into(),
        }
    }
}
