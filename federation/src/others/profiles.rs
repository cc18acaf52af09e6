//! What users of other servers tell about themselves.

use hearth_rooms::peers::RemoteError;
use ruma::{
    UserId, api::federation::query::get_profile_information::v1 as get_profile_information,
};
use serde_json::{Map, Value};

use super::{Others, remote};
use crate::client::{Bounds, RequestError};

impl Others {
    /// Asks the server of a user for the profile, or one field of it; `None` when there is no such user.
    ///
    /// # Errors
    ///
    /// When the server does not answer, or refuses to.
    pub async fn profile(
        &self,
        user_id: &UserId,
        field: Option<&str>,
    ) -> Result<Option<Map<String, Value>>, RemoteError> {
        let mut request = get_profile_information::Request::new(user_id.to_owned());
        request.field = field.map(Into::into);
        let asked = self
            .client
            .send(user_id.server_name(), request, Bounds::SMALL);
        match asked.await {
            Ok(response) => Ok(Some(response.into_iter().collect())),
            Err(RequestError::Refused { status, .. }) if status.as_u16() == 404 => Ok(None),
            Err(error) => Err(remote(&error)),
        }
    }
}
