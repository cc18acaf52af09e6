//! Room versions and their rules.

pub use hearth_core::SUPPORTED_ROOM_VERSIONS as SUPPORTED;
use ruma::{RoomVersionId, room_version_rules::RoomVersionRules};

/// The rules of a room version, if it is supported.
#[must_use]
pub fn supported(version: &RoomVersionId) -> Option<RoomVersionRules> {
    SUPPORTED
        .contains(version)
        .then(|| version.rules())
        .flatten()
}

/// The rules of a stored room's version.
pub(crate) fn rules(version: &str) -> sqlx::Result<RoomVersionRules> {
    RoomVersionId::try_from(version)
        .ok()
        .and_then(|version| supported(&version))
        .ok_or_else(|| {
            sqlx::Error::Decode(format!("a stored room has the version {version:?}").into())
        })
}
