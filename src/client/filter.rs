//! Filters.

use axum::extract::State;
use hearth_users::{Filters, filters::FilterError};
use ruma::api::client::filter::{create_filter, get_filter};

use super::{ClientState, Requester};
use crate::http::{Api, ApiError, Ruma};

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    Api::new().endpoint(create_filter).endpoint(get_filter)
}

/// `POST /_matrix/client/*/user/{userId}/filter`
async fn create_filter(
    State(filters): State<Filters>,
    requester: Requester,
    Ruma(request): Ruma<create_filter::v3::Request>,
) -> Result<Ruma<create_filter::v3::Response>, ApiError> {
    requester.refuse_other(&request.user_id)?;

    let id = filters.insert(requester.user, &request.filter).await?;

    Ok(Ruma(create_filter::v3::Response::new(id)))
}

/// `GET /_matrix/client/*/user/{userId}/filter/{filterId}`
async fn get_filter(
    State(filters): State<Filters>,
    requester: Requester,
    Ruma(request): Ruma<get_filter::v3::Request>,
) -> Result<Ruma<get_filter::v3::Response>, ApiError> {
    requester.refuse_other(&request.user_id)?;

    let filter = filters.find(requester.user, &request.filter_id).await?;

    Ok(Ruma(get_filter::v3::Response::new(filter)))
}

impl From<FilterError> for ApiError {
    fn from(error: FilterError) -> Self {
        match error {
            FilterError::TooLarge => Self::too_large(error.to_string()),
            FilterError::NotFound => Self::not_found(error.to_string()),
            FilterError::Storage(error) => error.into(),
        }
    }
}
