//! Reports of events, rooms and users.

use axum::extract::State;
use hearth_users::{Reports, reports::ReportError};
use ruma::api::client::{
    reporting::report_user,
    room::{report_content, report_room},
};

use super::{ClientState, Requester};
use crate::http::{Api, ApiError, Ruma};

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    Api::new()
        .endpoint(report_content)
        .endpoint(report_room)
        .endpoint(report_user)
}

/// `POST /_matrix/client/*/rooms/{roomId}/report/{eventId}`
async fn report_content(
    State(reports): State<Reports>,
    requester: Requester,
    Ruma(request): Ruma<report_content::v3::Request>,
) -> Result<Ruma<report_content::v3::Response>, ApiError> {
    let reason = request.reason.unwrap_or_default();

    reports
        .report_event(requester.user, &request.room_id, &request.event_id, &reason)
        .await?;

    Ok(Ruma(report_content::v3::Response::new()))
}

/// `POST /_matrix/client/*/rooms/{roomId}/report`
async fn report_room(
    State(reports): State<Reports>,
    requester: Requester,
    Ruma(request): Ruma<report_room::v3::Request>,
) -> Result<Ruma<report_room::v3::Response>, ApiError> {
    reports
        .report_room(requester.user, &request.room_id, &request.reason)
        .await?;

    Ok(Ruma(report_room::v3::Response::new()))
}

/// `POST /_matrix/client/*/users/{userId}/report`
async fn report_user(
    State(reports): State<Reports>,
    requester: Requester,
    Ruma(request): Ruma<report_user::v3::Request>,
) -> Result<Ruma<report_user::v3::Response>, ApiError> {
    reports
        .report_user(requester.user, &request.user_id, &request.reason)
        .await?;

    Ok(Ruma(report_user::v3::Response::new()))
}

impl From<ReportError> for ApiError {
    fn from(error: ReportError) -> Self {
        match error {
            ReportError::NotFound => Self::not_found(error.to_string()),
            ReportError::Storage(error) => error.into(),
        }
    }
}
