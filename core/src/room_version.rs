//! The room versions that this server knows.

use ruma::RoomVersionId;

/// The room versions that rooms may be created with and joined in, oldest first.
///
/// The first version is left out: its way to resolve states lets what was changed long ago come back.
pub const SUPPORTED_ROOM_VERSIONS: [RoomVersionId; 11] = [
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
