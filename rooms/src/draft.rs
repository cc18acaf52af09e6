//! Events as their senders think of them.

use hearth_core::EventNid;
use ruma::{
    CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedEventId, events::TimelineEventType,
};

/// An event as its sender thinks of it.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The event type.
    pub kind: TimelineEventType,
    /// Present on state events.
    pub state_key: Option<String>,
    /// The content.
    pub content: CanonicalJsonObject,
    /// What a redaction redacts.
    pub redacts: Option<OwnedEventId>,
    /// When it was made, if not now (application services).
    pub timestamp: Option<MilliSecondsSinceUnixEpoch>,
    /// The state event that it must replace: another one in its place means that somebody was faster.
    pub replaces: Option<EventNid>,
}

impl Draft {
    /// A state event.
    #[must_use]
    pub fn state(
        kind: impl Into<TimelineEventType>,
        state_key: impl Into<String>,
        content: CanonicalJsonObject,
    ) -> Self {
        Self {
            kind: kind.into(),
            state_key: Some(state_key.into()),
            content,
            redacts: None,
            timestamp: None,
            replaces: None,
        }
    }

    /// A message event.
    #[must_use]
    pub fn message(kind: impl Into<TimelineEventType>, content: CanonicalJsonObject) -> Self {
        Self {
            kind: kind.into(),
            state_key: None,
            content,
            redacts: None,
            timestamp: None,
            replaces: None,
        }
    }
}
