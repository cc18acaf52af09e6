//! Room versions and their rules.

use ruma::{RoomVersionId, room_version_rules::RoomVersionRules};

/// The room versions that rooms may be created with and joined in, oldest first.
///
/// The first version is left out: its way to resolve states lets what was changed long ago come back.
pub const SUPPORTED: [RoomVersionId; 11] = [
    RoomVersionId::V2,
    RoomVersionId::V3,
    RoomVersionId::V4,
    RoomVersionId::V5,
    RoomVersionId::V6,
    RoomVersionId::V7,
    RoomVersionId::V8,
    RoomVersionId::V9,
    RoomVersionId::V10,
    RoomVersionId::V11,
    RoomVersionId::V12,
];

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
