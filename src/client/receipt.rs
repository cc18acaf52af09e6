//! Receipts and read markers.

use axum::{
    Json,
    extract::{Path, State},
};
use bytes::Bytes;
use hearth_push::{ReadError, ReadState, ReceiptTarget, Viewer};
use ruma::{
    EventId, RoomId,
    api::client::{read_marker::set_read_marker, receipt::create_receipt},
};
use serde_json::{Map, Value, json};

use super::{ClientState, Requester, room_error::not_in_room};
use crate::http::{Api, ApiError, Ruma};

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    Api::new()
        .read_by_hand::<create_receipt::v3::Request, _>(create_receipt)
        .endpoint(set_read_marker)
}

/// `POST /_matrix/client/*/rooms/{roomId}/receipt/{receiptType}/{eventId}`
///
/// Read by hand: a thread that is no string has an error code of its own, and clients of old send no body.
async fn create_receipt(
    State(read_state): State<ReadState>,
    requester: Requester,
    Path((room_id, kind, event_id)): Path<(String, String, String)>,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let invalid = |error: ruma::IdParseError| ApiError::invalid_param(error.to_string());
    let room_id = RoomId::parse(room_id).map_err(invalid)?;
    let target = ReceiptTarget {
        kind,
        thread: thread_id(&body)?,
        event_id: EventId::parse(event_id).map_err(invalid)?,
    };

    read_state
        .mark(&viewer(&requester), &room_id, &[target])
        .await?;

    Ok(Json(json!({})))
}

/// `POST /_matrix/client/*/rooms/{roomId}/read_markers`
async fn set_read_marker(
    State(read_state): State<ReadState>,
    requester: Requester,
    Ruma(request): Ruma<set_read_marker::v3::Request>,
) -> Result<Ruma<set_read_marker::v3::Response>, ApiError> {
    let targets: Vec<ReceiptTarget> = [
        ("m.fully_read", request.fully_read),
        ("m.read", request.read_receipt),
        ("m.read.private", request.private_read_receipt),
    ]
    .into_iter()
    .filter_map(|(kind, event_id)| {
        Some(ReceiptTarget {
            kind: kind.to_owned(),
            thread: None,
            event_id: event_id?,
        })
    })
    .collect();

    read_state
        .mark(&viewer(&requester), &request.room_id, &targets)
        .await?;

    Ok(Ruma(set_read_marker::v3::Response::new()))
}

fn viewer(requester: &Requester) -> Viewer {
    Viewer {
        user: requester.user,
        user_id: requester.user_id().to_owned(),
    }
}

/// The thread of a receipt.
fn thread_id(body: &[u8]) -> Result<Option<String>, ApiError> {
    if body.is_empty() {
        return Ok(None);
    }
    let mut body: Map<String, Value> = serde_json::from_slice(body)?;
    match body.remove("thread_id") {
        None => Ok(None),
        Some(Value::String(thread)) if !thread.is_empty() => Ok(Some(thread)),
        Some(_) => Err(ApiError::invalid_param(
            "thread_id must be a string that is not empty",
        )),
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NotJoined => not_in_room(),
            ReadError::UnknownEvent => Self::not_found(error.to_string()),
            ReadError::Invalid(reason) => Self::invalid_param(reason),
            ReadError::Write(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_a_string() {
        assert_eq!(thread_id(b"").unwrap(), None);
        assert_eq!(thread_id(b"{}").unwrap(), None);
        let main = thread_id(br#"{"thread_id": "main"}"#).unwrap();
        assert_eq!(main.as_deref(), Some("main"));
        for body in [r#"{"thread_id": ""}"#, r#"{"thread_id": 7}"#] {
            assert!(thread_id(body.as_bytes()).is_err(), "{body}");
        }
        assert!(thread_id(b"[]").is_err());
    }
}
