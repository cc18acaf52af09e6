//! What the user has not read of the rooms in a response.

use std::{collections::HashMap, sync::Arc};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hearth_core::{Position, RoomNid};
use hearth_push::{Count, UnreadCounts, Viewer};
use hearth_rooms::Room;

use crate::{
    filter::Threads,
    response::{Counts, Unread},
    service::Sync,
    view::View,
};

/// How many rooms are counted at once.
const AT_ONCE: usize = 8;

impl From<Count> for Counts {
    fn from(count: Count) -> Self {
        Self {
            notification_count: count.notifications,
            highlight_count: count.highlights,
        }
    }
}

/// The counts of these rooms, for events up to the end of the response.
pub(crate) async fn read(
    sync: &Sync,
    view: &View<'_>,
    rooms: Vec<Arc<Room>>,
) -> sqlx::Result<HashMap<RoomNid, Unread>> {
    let viewer = Viewer {
        user: view.receiver.user,
        user_id: view.receiver.user_id.clone(),
    };
    let counts: Vec<_> = rooms
        .into_iter()
        .map(|room| count(sync.unread().clone(), viewer.clone(), room, view.to))
        .collect();
    let counts: Vec<(RoomNid, hearth_push::Counts)> = stream::iter(counts)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    let unread = counts.into_iter().map(|(room, counts)| {
        let unread = match view.filter.threads {
            Threads::Together => Unread {
                room: counts.total().into(),
                ..Unread::default()
            },
            Threads::Apart => apart(counts),
        };
        (room, unread)
    });
    Ok(unread.collect())
}

/// Counts one room; owns what it needs, so that many run at once.
async fn count(
    unread: UnreadCounts,
    viewer: Viewer,
    room: Arc<Room>,
    up_to: Position,
) -> sqlx::Result<(RoomNid, hearth_push::Counts)> {
    let counts = unread.count(&viewer, &room, up_to).await?;
    Ok((room.nid, counts))
}

fn apart(counts: hearth_push::Counts) -> Unread {
    let threads = counts.threads.into_iter();
    Unread {
        room: counts.main.into(),
        threads: threads
            .map(|(root, count)| (root.to_string(), count.into()))
            .collect(),
    }
}
