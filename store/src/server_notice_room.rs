//! `server_notice_room`: the room in which the server tells a user something.

use hearth_core::{RoomNid, UserNid};
use sqlx::PgConnection;

/// Makes `room` the one of `user`, in the place of another.
pub async fn upsert(conn: &mut PgConnection, user: UserNid, room: RoomNid) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO server_notice_room (user_nid, room_nid) VALUES ($1, $2)
         ON CONFLICT (user_nid) DO UPDATE SET room_nid = excluded.room_nid",
        user.0,
        room.0,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Returns the room of `user`.
pub async fn find(conn: &mut PgConnection, user: UserNid) -> sqlx::Result<Option<RoomNid>> {
    let room = sqlx::query_scalar!(
        "SELECT room_nid FROM server_notice_room WHERE user_nid = $1",
        user.0,
    )
    .fetch_optional(conn)
    .await?;
    Ok(room.map(RoomNid))
}
