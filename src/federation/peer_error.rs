//! What another server is told when a room refuses something.

use hearth_rooms::PeerError;
use ruma::api::error::{ErrorKind, IncompatibleRoomVersionErrorData};

use crate::http::ApiError;

impl From<PeerError> for ApiError {
    fn from(error: PeerError) -> Self {
        let message = error.to_string();
        match error {
            PeerError::NotFound => Self::not_found(message),
            PeerError::Forbidden(_) => Self::forbidden(message),
            PeerError::Invalid(_) => Self::invalid_param(message),
            PeerError::Missing(_) => Self::bad_request(ErrorKind::MissingParam, message),
            PeerError::IncompatibleVersion(version) => {
                let data = IncompatibleRoomVersionErrorData::new(version);
                Self::bad_request(ErrorKind::IncompatibleRoomVersion(data), message)
            }
            PeerError::UnableToAuthoriseJoin => {
                Self::bad_request(ErrorKind::UnableToAuthorizeJoin, message)
            }
            PeerError::UnableToGrantJoin => {
                Self::bad_request(ErrorKind::UnableToGrantJoin, message)
            }
            PeerError::Event(error) => error.into(),
        }
    }
}
