//! `openid_token`: tokens with which users prove to third parties who they are.

use hearth_core::UserNid;
use ruma::{OwnedUserId, UserId};
use sqlx::PgConnection;

use crate::token_table::token_table;

token_table!("openid_token");

/// Returns whose token it is, unless it expired before `now` or the account is closed.
pub async fn find(
    conn: &mut PgConnection,
    hash: &[u8],
    now: i64,
) -> sqlx::Result<Option<OwnedUserId>> {
    let user_id = sqlx::query_scalar!(
        "SELECT u.user_id FROM openid_token AS t
         JOIN account AS a ON a.user_nid = t.user_nid
         JOIN user_id AS u ON u.nid = t.user_nid
         WHERE t.hash = $1 AND t.expires_ts > $2 AND NOT a.deactivated",
        hash,
        now,
    )
    .fetch_optional(conn)
    .await?;

    user_id
        .map(|id| UserId::parse(&id).map_err(|e| sqlx::Error::Decode(e.into())))
        .transpose()
}
