//! For whom differences are computed, and what they want to see.

use std::sync::Arc;

use hearth_core::{Position, token::StreamToken};
use hearth_push::UserSettings;
use hearth_rooms::client_event::Receiver;
use ruma::presence::PresenceState;

use tokio::time::Duration;

use crate::filter::SyncFilter;

/// A request for what is new.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who asks.
    pub receiver: Receiver,
    /// What he wants.
    pub filter: Arc<SyncFilter>,
    /// What he has; `None`: nothing.
    pub since: Option<StreamToken>,
    /// Whether all state of all rooms is wanted again.
    pub full_state: FullState,
    /// Which state goes with a timeline.
    pub state: StateMode,
    /// How the presence of the user changes by asking.
    pub set_presence: PresenceState,
    /// How long to wait for something new.
    pub timeout: Duration,
}

/// Whether all state is sent, or only what changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FullState {
    /// All of it.
    All,
    /// What changed.
    Changed,
}

/// Which state goes with a timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateMode {
    /// What changed up to the start of the timeline.
    BeforeTimeline,
    /// What changed up to its end.
    AfterTimeline,
}

/// What one computation of differences is for.
#[derive(Debug)]
pub(crate) struct View<'a> {
    pub receiver: &'a Receiver,
    pub filter: &'a SyncFilter,
    pub settings: &'a UserSettings,
    pub state: StateMode,
    pub full_state: FullState,
    /// What the client has of the log.
    pub since: Option<Position>,
    /// Up to where it gets it.
    pub to: Position,
}
