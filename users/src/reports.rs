//! What users find inappropriate (specification, "Reporting Content"): kept for the administrators.

use hearth_core::{Clock, UserNid};
use hearth_store::{
    event,
    intern::Interner,
    membership,
    report::{self, NewReport},
    room,
};
use ruma::{EventId, RoomId, UserId};
use sqlx::PgPool;

/// The longest reason, in bytes; the rest is cut off.
const MAX_REASON: usize = 4_096;

/// Why a report of an event is refused.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// There is no such event in a room that the user is joined to. Which of it is wrong, nobody is told.
    #[error("the event was not found or you are not joined to the room")]
    NotFound,
    /// The database failed.
    #[error("reporting failed")]
    Storage(#[from] sqlx::Error),
}

/// The reports of this server's users.
#[derive(Clone, Debug)]
pub struct Reports {
    pool: PgPool,
    interner: Interner,
    clock: Clock,
}

impl Reports {
    /// Reports in `pool`.
    #[must_use]
    pub fn new(pool: PgPool, interner: Interner, clock: Clock) -> Self {
        Self {
            pool,
            interner,
            clock,
        }
    }

    /// Reports an event in a room that the user is joined to.
    ///
    /// # Errors
    ///
    /// [`ReportError::NotFound`].
    pub async fn report_event(
        &self,
        reporter: UserNid,
        room_id: &RoomId,
        event_id: &EventId,
        reason: &str,
    ) -> Result<(), ReportError> {
        let mut conn = self.pool.acquire().await?;
        let room = room::find_by_id(&mut conn, room_id.as_str()).await?;
        let room = room.ok_or(ReportError::NotFound)?.nid;
        let membership = membership::find(&mut conn, reporter, room).await?;
        let places = event::list_places(&mut conn, &[event_id.as_str()]).await?;
        let joined = membership.is_some_and(|membership| membership.membership == "join");
        if !joined || places.iter().all(|place| place.room != room) {
            return Err(ReportError::NotFound);
        }
        drop(conn);

        self.insert(NewReport {
            room: Some(room),
            event_id: Some(event_id.as_str()),
            ..self.new_report(reporter, reason)
        })
        .await?;
        Ok(())
    }

    /// Reports a room. Whether there is such a room, the caller is not told.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn report_room(
        &self,
        reporter: UserNid,
        room_id: &RoomId,
        reason: &str,
    ) -> sqlx::Result<()> {
        let mut conn = self.pool.acquire().await?;
        let room = room::find_by_id(&mut conn, room_id.as_str()).await?;
        drop(conn);
        let Some(room) = room else { return Ok(()) };
        self.insert(NewReport {
            room: Some(room.nid),
            ..self.new_report(reporter, reason)
        })
        .await
    }

    /// Reports a user. Whether there is such a user, the caller is not told.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn report_user(
        &self,
        reporter: UserNid,
        user_id: &UserId,
        reason: &str,
    ) -> sqlx::Result<()> {
        let Some(user) = self.interner.find_user(user_id).await? else {
            return Ok(());
        };
        self.insert(NewReport {
            user: Some(user),
            ..self.new_report(reporter, reason)
        })
        .await
    }

    fn new_report<'a>(&self, reporter: UserNid, reason: &'a str) -> NewReport<'a> {
        NewReport {
            reporter,
            room: None,
            event_id: None,
            user: None,
            reason: &reason[..reason.floor_char_boundary(MAX_REASON)],
            created_ts: self.clock.millis(),
        }
    }

    async fn insert(&self, new: NewReport<'_>) -> sqlx::Result<()> {
        let mut conn = self.pool.acquire().await?;
        report::insert(&mut conn, new).await
    }
}
