//! Joining, leaving, inviting, kicking, banning, knocking, forgetting.

use std::sync::Arc;

use axum::extract::State;
use hearth_rooms::{Directory, Room, Rooms, Verdict};
use hearth_users::Profiles;
use http::StatusCode;
use ruma::{
    CanonicalJsonObject, OwnedRoomId, OwnedServerName, RoomAliasId, RoomId, RoomOrAliasId, UserId,
    api::{
        client::{
            knock::knock_room,
            membership::{
                ban_user, forget_room,
                invite_user::{self, v3::InvitationRecipient},
                join_room_by_id, join_room_by_id_or_alias, joined_rooms, kick_user, leave_room,
                unban_user,
            },
        },
        error::ErrorKind,
    },
};

use super::{
    ClientState, Requester,
    room::{Arrivals, member},
    room_error::{no_such_room, not_in_room},
};
use crate::{
    http::{Api, ApiError, RateLimits, Ruma, WithBody, limit::Action},
    server_notices::ServerNotices,
};

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    Api::new()
        .endpoint(joined_rooms)
        .endpoint(join_room_by_id)
        .endpoint(join_room_by_id_or_alias)
        .endpoint(knock_room)
        .endpoint(leave_room)
        .endpoint(forget_room)
        .endpoint(invite_user)
        .endpoint(kick_user)
        .endpoint(ban_user)
        .endpoint(unban_user)
}

/// `GET /_matrix/client/*/joined_rooms`
async fn joined_rooms(
    State(rooms): State<Rooms>,
    requester: Requester,
    _: Ruma<joined_rooms::v3::Request>,
) -> Result<Ruma<joined_rooms::v3::Response>, ApiError> {
    let joined = rooms.joined(requester.user).await?;

    Ok(Ruma(joined_rooms::v3::Response::new(joined)))
}

/// `POST /_matrix/client/*/rooms/{roomId}/join`
async fn join_room_by_id(
    State(arrivals): State<Arrivals>,
    State(profiles): State<Profiles>,
    State(limits): State<RateLimits>,
    requester: Requester,
    WithBody { request, body }: WithBody<join_room_by_id::v3::Request>,
) -> Result<Ruma<join_room_by_id::v3::Response>, ApiError> {
    limits.check_user(Action::Join, requester.user_id())?;
    let place = Place {
        room_id: request.room_id,
        via: Vec::new(),
    };
    join(&arrivals.rooms, &profiles, &requester, &place, body).await?;
    arrivals.take_along(&requester, &place.room_id).await;

    Ok(Ruma(join_room_by_id::v3::Response::new(place.room_id)))
}

/// `POST /_matrix/client/*/join/{roomIdOrAlias}`
async fn join_room_by_id_or_alias(
    State(arrivals): State<Arrivals>,
    State(directory): State<Directory>,
    State(profiles): State<Profiles>,
    State(limits): State<RateLimits>,
    requester: Requester,
    WithBody { request, body }: WithBody<join_room_by_id_or_alias::v3::Request>,
) -> Result<Ruma<join_room_by_id_or_alias::v3::Response>, ApiError> {
    limits.check_user(Action::Join, requester.user_id())?;
    let place = Place::find(&directory, &request.room_id_or_alias, request.via).await?;
    join(&arrivals.rooms, &profiles, &requester, &place, body).await?;
    arrivals.take_along(&requester, &place.room_id).await;

    Ok(Ruma(join_room_by_id_or_alias::v3::Response::new(
        place.room_id,
    )))
}

/// `POST /_matrix/client/*/knock/{roomIdOrAlias}`
async fn knock_room(
    State(rooms): State<Rooms>,
    State(directory): State<Directory>,
    State(profiles): State<Profiles>,
    State(limits): State<RateLimits>,
    requester: Requester,
    Ruma(request): Ruma<knock_room::v3::Request>,
) -> Result<Ruma<knock_room::v3::Response>, ApiError> {
    requester.refuse_suspended()?;
    limits.check_user(Action::Join, requester.user_id())?;
    let place = Place::find(&directory, &request.room_id_or_alias, request.via).await?;
    let member = member(&rooms, &profiles, requester.user_id()).await?;
    let reason = request.reason.as_deref();
    rooms
        .knock_by_id(&place.room_id, &place.via, &member, reason)
        .await?;

    Ok(Ruma(knock_room::v3::Response::new(place.room_id)))
}

/// `POST /_matrix/client/*/rooms/{roomId}/leave`
async fn leave_room(
    State(rooms): State<Rooms>,
    State(notices): State<ServerNotices>,
    requester: Requester,
    Ruma(request): Ruma<leave_room::v3::Request>,
) -> Result<Ruma<leave_room::v3::Response>, ApiError> {
    let room = known(&rooms, &request.room_id).await?;
    if notices.holds(requester.user_id(), &room).await? {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            ErrorKind::CannotLeaveServerNoticeRoom,
            "an invite to the room of server notices cannot be turned down",
        ));
    }
    rooms
        .leave(&room, requester.user_id(), request.reason.as_deref())
        .await?;

    Ok(Ruma(leave_room::v3::Response::new()))
}

/// `POST /_matrix/client/*/rooms/{roomId}/forget`
async fn forget_room(
    State(rooms): State<Rooms>,
    requester: Requester,
    Ruma(request): Ruma<forget_room::v3::Request>,
) -> Result<Ruma<forget_room::v3::Response>, ApiError> {
    let room = known(&rooms, &request.room_id).await?;
    rooms.forget(&room, requester.user_id()).await?;

    Ok(Ruma(forget_room::v3::Response::new()))
}

/// `POST /_matrix/client/*/rooms/{roomId}/invite`
async fn invite_user(
    State(rooms): State<Rooms>,
    State(profiles): State<Profiles>,
    State(limits): State<RateLimits>,
    requester: Requester,
    Ruma(request): Ruma<invite_user::v3::Request>,
) -> Result<Ruma<invite_user::v3::Response>, ApiError> {
    requester.refuse_suspended()?;
    limits.check_user(Action::Join, requester.user_id())?;
    let InvitationRecipient::UserId(recipient) = request.recipient else {
        return Err(ApiError::bad_request(
            ErrorKind::ThreepidDenied,
            "this server asks no identity server: invite by user id",
        ));
    };
    let room = rooms
        .find(&request.room_id)
        .await?
        .ok_or_else(not_in_room)?;
    let member = member(&rooms, &profiles, &recipient.user_id).await?;
    let reason = recipient.reason.as_deref();
    rooms
        .invite(&room, requester.user_id(), &member, reason)
        .await?;

    Ok(Ruma(invite_user::v3::Response::new()))
}

/// `POST /_matrix/client/*/rooms/{roomId}/kick`
async fn kick_user(
    State(rooms): State<Rooms>,
    requester: Requester,
    Ruma(request): Ruma<kick_user::v3::Request>,
) -> Result<Ruma<kick_user::v3::Response>, ApiError> {
    let verdict = (Verdict::Kick, request.reason.as_deref());
    moderate(
        &rooms,
        &requester,
        &request.room_id,
        &request.user_id,
        verdict,
    )
    .await?;

    Ok(Ruma(kick_user::v3::Response::new()))
}

/// `POST /_matrix/client/*/rooms/{roomId}/ban`
async fn ban_user(
    State(rooms): State<Rooms>,
    requester: Requester,
    Ruma(request): Ruma<ban_user::v3::Request>,
) -> Result<Ruma<ban_user::v3::Response>, ApiError> {
    let verdict = (Verdict::Ban, request.reason.as_deref());
    moderate(
        &rooms,
        &requester,
        &request.room_id,
        &request.user_id,
        verdict,
    )
    .await?;

    Ok(Ruma(ban_user::v3::Response::new()))
}

/// `POST /_matrix/client/*/rooms/{roomId}/unban`
async fn unban_user(
    State(rooms): State<Rooms>,
    requester: Requester,
    Ruma(request): Ruma<unban_user::v3::Request>,
) -> Result<Ruma<unban_user::v3::Response>, ApiError> {
    let verdict = (Verdict::Unban, request.reason.as_deref());
    moderate(
        &rooms,
        &requester,
        &request.room_id,
        &request.user_id,
        verdict,
    )
    .await?;

    Ok(Ruma(unban_user::v3::Response::new()))
}

/// Lets the requester moderate a room.
async fn moderate(
    rooms: &Rooms,
    requester: &Requester,
    room_id: &RoomId,
    target: &UserId,
    verdict: (Verdict, Option<&str>),
) -> Result<(), ApiError> {
    requester.refuse_suspended()?;
    let room = rooms.find(room_id).await?.ok_or_else(not_in_room)?;
    rooms
        .moderate(&room, requester.user_id(), target, verdict)
        .await?;
    Ok(())
}

/// Lets the requester join, with what the body says, the reason among it, in the event.
async fn join(
    rooms: &Rooms,
    profiles: &Profiles,
    requester: &Requester,
    place: &Place,
    mut body: CanonicalJsonObject,
) -> Result<(), ApiError> {
    requester.refuse_suspended()?;
    let mut member = member(rooms, profiles, requester.user_id()).await?;
    body.remove("third_party_signed");
    member.more = body;
    if requester.guest {
        let room = known(rooms, &place.room_id).await?;
        rooms.join_as_guest(&room, &member).await?;
    } else {
        rooms
            .join_by_id(&place.room_id, &place.via, &member)
            .await?;
    }
    Ok(())
}

async fn known(rooms: &Rooms, room_id: &RoomId) -> Result<Arc<Room>, ApiError> {
    rooms.find(room_id).await?.ok_or_else(no_such_room)
}

/// A room that somebody wants to get into, and servers that may be in it.
struct Place {
    room_id: OwnedRoomId,
    via: Vec<OwnedServerName>,
}

impl Place {
    /// The room that an id or an alias means.
    async fn find(
        directory: &Directory,
        id_or_alias: &RoomOrAliasId,
        mut via: Vec<OwnedServerName>,
    ) -> Result<Self, ApiError> {
        match <&RoomAliasId>::try_from(id_or_alias) {
            Ok(alias) => {
                let resolved = directory.resolve(alias).await?;
                via.extend(resolved.servers);
                Ok(Self {
                    room_id: resolved.room_id,
                    via,
                })
            }
            Err(id) => Ok(Self {
                room_id: id.to_owned(),
                via,
            }),
        }
    }
}
