//! Filters that clients keep on the server (specification, "Filtering").

use hearth_core::UserNid;
use hearth_store::{account, filter};
use ruma::api::client::filter::FilterDefinition;
use sqlx::PgPool;

/// Why a filter is not stored or found.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// The filter is too large.
    #[error("a filter has at most {MAX_FILTER} bytes")]
    TooLarge,
    /// There is no such filter.
    #[error("there is no such filter")]
    NotFound,
    /// The database failed.
    #[error("a filter could not be read or written")]
    Storage(#[from] sqlx::Error),
}

/// The largest filter, in bytes.
const MAX_FILTER: usize = 64 * 1024;

/// The filters of this server's users.
#[derive(Clone, Debug)]
pub struct Filters {
    pool: PgPool,
}

impl Filters {
    /// Filters in `pool`.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Stores a filter and returns its id; an equal one that is stored already keeps its own.
    ///
    /// # Errors
    ///
    /// [`FilterError::TooLarge`].
    pub async fn insert(
        &self,
        user: UserNid,
        filter: &FilterDefinition,
    ) -> Result<String, FilterError> {
        let body = serde_json::to_string(filter)
            .map_err(|error| FilterError::Storage(sqlx::Error::Encode(error.into())))?;
        if body.len() > MAX_FILTER {
            return Err(FilterError::TooLarge);
        }
        let id = hearth_store::retry("store filter", || self.insert_once(user, &body)).await?;
        Ok(id.to_string())
    }

    async fn insert_once(&self, user: UserNid, body: &str) -> sqlx::Result<i64> {
        let mut tx = self.pool.begin().await?;
        account::lock(&mut tx, user).await?;
        let id = match filter::find_id(&mut tx, user, body).await? {
            Some(id) => id,
            None => filter::insert(&mut tx, user, body).await?,
        };
        tx.commit().await?;
        Ok(id)
    }

    /// Returns the filter with this id.
    ///
    /// # Errors
    ///
    /// [`FilterError::NotFound`].
    pub async fn find(&self, user: UserNid, id: &str) -> Result<FilterDefinition, FilterError> {
        let id = id.parse().map_err(|_| FilterError::NotFound)?;
        let mut conn = self.pool.acquire().await?;
        let body = filter::find(&mut conn, user, id).await?;
        let body = body.ok_or(FilterError::NotFound)?;
        serde_json::from_str(&body)
            .map_err(|error| FilterError::Storage(sqlx::Error::Decode(error.into())))
    }
}
