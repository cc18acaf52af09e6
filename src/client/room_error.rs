//! What a client is told when something in a room fails.

use hearth_rooms::{
    CreateError, MembershipError, SendError, peers::PolicyError, residents::ResidentError,
};
use http::StatusCode;
use ruma::api::error::ErrorKind;
use serde_json::json;

use crate::http::ApiError;

/// 403: the user is not in the room, whether it exists or not.
pub(super) fn not_in_room() -> ApiError {
    ApiError::forbidden("you are not in this room")
}

/// 404: nobody here knows the room.
pub(super) fn no_such_room() -> ApiError {
    ApiError::not_found("this room is not known here")
}

impl From<SendError> for ApiError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Forbidden(reason) => Self::forbidden(reason),
            SendError::BadEvent(reason) => Self::bad_request(ErrorKind::BadJson, reason),
            SendError::TooLarge(reason) => Self::too_large(reason),
            SendError::DuplicateAnnotation => {
                Self::bad_request(ErrorKind::DuplicateAnnotation, error.to_string())
            }
            SendError::InviteBlocked => Self::new(
                StatusCode::FORBIDDEN,
                ErrorKind::InviteBlocked,
                error.to_string(),
            ),
            SendError::UnknownTarget => Self::not_found("the event to redact is not in this room"),
            SendError::UnknownRoom => no_such_room(),
            SendError::NotRecommended(error) => not_recommended(error),
            SendError::InvalidParam(reason) => Self::invalid_param(reason),
            SendError::BadAlias(reason) => Self::bad_request(ErrorKind::BadAlias, reason),
            SendError::Overloaded | SendError::Contended | SendError::Superseded => {
                Self::unavailable()
            }
            SendError::Storage(error) => error.into(),
        }
    }
}

/// What the policy server said, as it said it.
fn not_recommended(error: PolicyError) -> ApiError {
    match error {
        PolicyError::Refused {
            status,
            errcode,
            message,
        } => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
            let kind = serde_json::from_value(json!({ "errcode": errcode }));
            ApiError::new(status, kind.unwrap_or(ErrorKind::Forbidden), message)
        }
        PolicyError::Unreachable => ApiError::forbidden("the room's policy server does not answer"),
    }
}

impl From<MembershipError> for ApiError {
    fn from(error: MembershipError) -> Self {
        match error {
            MembershipError::StillIn => {
                Self::bad_request(ErrorKind::Unknown, "leave the room before you forget it")
            }
            MembershipError::NeverIn => Self::not_found("you were never in this room"),
            MembershipError::GuestsForbidden => super::guests::forbidden(),
            MembershipError::Unfit(reason) => Self::forbidden(reason),
            MembershipError::Elsewhere(error) => error.into(),
            MembershipError::NoServer => no_such_room(),
            MembershipError::Event(error) => error.into(),
        }
    }
}

impl From<ResidentError> for ApiError {
    fn from(error: ResidentError) -> Self {
        match error {
            // What we sent was wrong, and not what the client sent.
            ResidentError::Refused { kind, message, .. }
                if matches!(*kind, ErrorKind::MissingParam | ErrorKind::InvalidParam) =>
            {
                Self::new(StatusCode::BAD_GATEWAY, ErrorKind::Unknown, message)
            }
            ResidentError::Refused {
                status,
                kind,
                message,
            } => match StatusCode::from_u16(status) {
                Ok(status) if status.is_client_error() => Self::new(status, *kind, message),
                Ok(_) | Err(_) => Self::new(StatusCode::BAD_GATEWAY, *kind, message),
            },
            ResidentError::Unreachable => Self::new(
                StatusCode::BAD_GATEWAY,
                ErrorKind::Unknown,
                "no server that is in the room answers",
            ),
        }
    }
}

impl From<CreateError> for ApiError {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::UnsupportedVersion => Self::bad_request(
                ErrorKind::UnsupportedRoomVersion,
                "this server does not support that room version",
            ),
            CreateError::AliasTaken => {
                Self::bad_request(ErrorKind::RoomInUse, "the alias is in use")
            }
            CreateError::TooManyInvites | CreateError::TooMuchState => {
                Self::invalid_param(error.to_string())
            }
            CreateError::Event(SendError::Forbidden(reason) | SendError::BadEvent(reason)) => {
                Self::bad_request(ErrorKind::InvalidRoomState, reason)
            }
            CreateError::Event(error) => error.into(),
        }
    }
}
