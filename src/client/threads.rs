//! The threads of a room.

use axum::extract::State;
use hearth_rooms::{Participation, Relations, RoomIdField, Rooms, ThreadsRequest};
use ruma::api::client::threads::get_threads::{self, v1::IncludeThreads};

use super::{
    ClientState,
    reader::{Reader, limit, raws, token, view},
};
use crate::http::{Api, ApiError, Ruma};

/// How many threads are answered when the client does not say.
const DEFAULT_LIMIT: u32 = 20;

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    Api::new().endpoint(get_threads)
}

/// `GET /_matrix/client/*/rooms/{roomId}/threads`
async fn get_threads(
    State(rooms): State<Rooms>,
    Reader(reader): Reader,
    Ruma(request): Ruma<get_threads::v1::Request>,
) -> Result<Ruma<get_threads::v1::Response>, ApiError> {
    let (room, _) = view(&rooms, &reader, &request.room_id).await?;
    if request.limit.is_some_and(|limit| limit == ruma::UInt::MIN) {
        return Err(ApiError::invalid_param(
            "the limit must be greater than zero",
        ));
    }
    let asked = ThreadsRequest {
        participated: match request.include {
            IncludeThreads::Participated => Participation::Own,
            IncludeThreads::All => Participation::Any,
            _ => return Err(ApiError::invalid_param("`include` is all or participated")),
        },
        from: token(request.from.as_deref())?,
        limit: limit(request.limit.unwrap_or(DEFAULT_LIMIT.into()), None),
    };

    let page = rooms.threads(&room, &reader, asked).await?;

    let chunk = rooms
        .serve(
            page.events,
            &reader,
            RoomIdField::Written,
            Relations::Bundled,
        )
        .await?;
    let mut response = get_threads::v1::Response::new(raws(&chunk));
    response.next_batch = page.end.map(|end| end.to_string());
    Ok(Ruma(response))
}
