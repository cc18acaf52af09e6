//! Makes users leave all rooms once their accounts are closed.
//!
//! That there is something to leave is noted with the closing itself and struck off when it is done, so that no
//! failure leaves anybody behind. Leaving twice is leaving once, so that it does no harm when two are at it.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use hearth_core::{RoomNid, UserNid};
use hearth_store::{account, membership};
use ruma::UserId;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    MembershipError, Rooms, SendError,
    backlog::{self, Backlog},
};

/// How many rooms of one user are left at once.
const AT_ONCE: usize = 8;

/// How often closed accounts are looked for that still have rooms, since something failed.
const SWEEP: Duration = Duration::from_mins(5);

/// How many users one sweep takes on.
const SWEPT: i64 = 100;

/// Makes users leave all rooms.
#[derive(Clone, Debug)]
pub struct Departures {
    rooms: Rooms,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Departures {
    /// Makes the service.
    #[must_use]
    pub fn new(rooms: Rooms, tasks: TaskTracker, stop: CancellationToken) -> Self {
        Self { rooms, tasks, stop }
    }

    /// Makes a user whose account is closed leave all rooms; waits for it, but not longer than `patience`.
    pub async fn depart(&self, user: UserNid, patience: Duration) {
        backlog::take_up(self, user, patience, (&self.tasks, &self.stop)).await;
    }

    /// Takes up what was left behind, now and again until the server stops.
    pub async fn sweep(self) {
        backlog::sweep(&self, SWEEP, &self.stop).await;
    }

    /// Leaves one room. That a room refuses is no reason to stay in the others.
    async fn leave(&self, room: RoomNid, user: &UserId) -> Result<(), MembershipError> {
        let Some(room) = self.rooms.find_by_nid(room).await? else {
            return Ok(());
        };
        match self.rooms.leave(&room, user, None).await {
            Ok(()) => Ok(()),
            Err(MembershipError::Event(
                error @ (SendError::Overloaded | SendError::Contended | SendError::Storage(_)),
            )) => Err(error.into()),
            Err(error) => {
                tracing::info!(room_id = %room.id, %error, "a room does not let a user go");
                Ok(())
            }
        }
    }
}

impl Backlog for Departures {
    const FAILURE: &'static str = "a user could not leave all rooms";

    type Error = MembershipError;

    async fn due(&self) -> sqlx::Result<Vec<UserNid>> {
        let mut conn = self.rooms.pool().acquire().await?;
        account::list_leaving(&mut conn, SWEPT).await
    }

    async fn work(&self, user: UserNid) -> Result<(), MembershipError> {
        let user_id = self.rooms.interner().user_id(user).await?;
        let mut conn = self.rooms.pool().acquire().await?;
        let rooms = membership::list_to_leave(&mut conn, user).await?;
        drop(conn);
        let user_id = &user_id;
        let departures = rooms
            .into_iter()
            .map(|room| async move { self.leave(room, user_id).await });
        let mut departures = stream::iter(departures).buffer_unordered(AT_ONCE);
        while let Some(outcome) = departures.next().await {
            outcome?;
        }
        let mut conn = self.rooms.pool().acquire().await?;
        account::update_left(&mut conn, user).await?;
        Ok(())
    }
}
