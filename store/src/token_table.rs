//! What `login_token` and `openid_token` have in common: tokens that expire soon.

/// The functions of such a table.
macro_rules! token_table {
    ($table:literal) => {
        /// Adds a token that works until `expires_ts`.
        pub async fn insert(
            conn: &mut PgConnection,
            hash: &[u8],
            user: UserNid,
            expires_ts: i64,
        ) -> sqlx::Result<()> {
            sqlx::query!(
                "INSERT INTO " + $table + " (hash, user_nid, expires_ts) VALUES ($1, $2, $3)",
                hash,
                user.0,
                expires_ts,
            )
            .execute(conn)
            .await?;

            Ok(())
        }

        /// Deletes tokens that expired before `now`, the oldest `limit` of them. Gives how many.
        pub async fn delete_expired(
            conn: &mut PgConnection,
            now: i64,
            limit: i64,
        ) -> sqlx::Result<u64> {
            let result = sqlx::query!(
                "DELETE FROM "
                    + $table
                    + " WHERE ctid = ANY (ARRAY(
                     SELECT ctid FROM "
                    + $table
                    + " WHERE expires_ts < $1 ORDER BY expires_ts LIMIT $2))",
                now,
                limit,
            )
            .execute(conn)
            .await?;
            Ok(result.rows_affected())
        }
    };
}

pub(crate) use token_table;
