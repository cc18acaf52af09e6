//! Tokens with which users prove to third parties who they are.

use std::time::Duration;

use hearth_core::{Clock, UserNid};
use hearth_store::openid_token;
use ruma::OwnedUserId;
use sqlx::PgPool;

use crate::{
    accounts::after,
    secret::{self, TokenHash},
};

/// How long a token works.
pub const LIFETIME: Duration = Duration::from_hours(1);

/// The `OpenID` tokens of this server's users.
#[derive(Clone, Debug)]
pub struct OpenIds {
    pool: PgPool,
    clock: Clock,
}

impl OpenIds {
    /// Tokens in `pool`.
    #[must_use]
    pub fn new(pool: PgPool, clock: Clock) -> Self {
        Self { pool, clock }
    }

    /// Makes a token that stands for `user` for [`LIFETIME`].
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn create(&self, user: UserNid) -> sqlx::Result<String> {
        let token = secret::token("hro_");
        let now = self.clock.millis();
        let mut conn = self.pool.acquire().await?;
        let hash = TokenHash::of(&token);
        openid_token::insert(&mut conn, hash.as_bytes(), user, after(now, LIFETIME)).await?;
        Ok(token)
    }

    /// Returns whom `token` stands for; it may be asked more than once.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn find(&self, token: &str) -> sqlx::Result<Option<OwnedUserId>> {
        let mut conn = self.pool.acquire().await?;
        let hash = TokenHash::of(token);
        openid_token::find(&mut conn, hash.as_bytes(), self.clock.millis()).await
    }
}
