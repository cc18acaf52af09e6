//! Puts one response together: which rooms, what happened in them, and the user's own streams.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use hearth_core::{
    Position, RoomNid, UserNid,
    token::{PageToken, StreamToken},
};
use hearth_rooms::{
    ClientEvent, Relations, RoomEvent,
    client_event::{Receiver, RoomIdField},
};
use hearth_store::membership;
use ruma::OwnedUserId;
use serde_json::value::RawValue;

use crate::{
    active::{ActiveUser, Members},
    difference::{self, RoomChanges},
    ephemeral::{self, ByRoom},
    plan::{self, Plan},
    response::{JoinedRoom, KeyCounts, LeftRoom, OutsideRoom, Response, TimelineAndState},
    service::Sync,
    streams::{self, AllAccountData},
    unread,
    view::{Request, View},
};

/// Computes what is new for the request between its token and `to`, the position at which `members` are known.
pub(crate) async fn respond(
    sync: &Sync,
    request: &Request,
    since: Option<&StreamToken>,
    user: &ActiveUser,
    (to, members): (Position, &Members),
) -> sqlx::Result<Response> {
    let (nid, user_id) = (request.receiver.user, &request.receiver.user_id);
    let settings = sync.settings().find(nid, user_id, to).await?;
    let receiver = Receiver {
        ignored: Arc::clone(&settings.ignored),
        ..request.receiver.clone()
    };
    let view = View {
        receiver: &receiver,
        filter: &request.filter,
        settings: &settings,
        state: request.state,
        full_state: request.full_state,
        since: since.map(|since| since.position),
        to,
    };
    // Read before the streams that it counts, so that a change in between is sent twice rather than never.
    let counter = since.map(|since| (since.incarnation, since.ephemeral));
    let counter = sync.ephemeral().counter_after(counter);
    let plan = plan::make(sync, &view, members).await?;
    let joined = difference::rooms(sync, &view, &plan.joined).await?;
    let left = difference::rooms(sync, &view, &plan.left).await?;
    let encounters = streams::encounters(sync, &view, &joined, &left).await?;
    let account_data = streams::account_data(sync, &view, user, &plan).await?;
    let to_device =
        streams::to_device(sync, &view, user, since.map(|since| since.to_device)).await?;
    let device_lists = streams::device_lists(sync, &view, user, &encounters).await?;
    let presence = ephemeral::presence(sync, &view, since, &encounters.met).await?;
    let rooms = Rooms::read(sync, &view, since, &plan, account_data).await?;
    let global = rooms.account_data.global.clone();
    let (join, leave) = rooms.build(sync, &view, &plan, joined, left).await?;
    Ok(Response {
        next: StreamToken {
            epoch: sync.journal().epoch(),
            position: to,
            to_device: to_device.until,
            incarnation: sync.ephemeral().incarnation(),
            ephemeral: counter,
        },
        join,
        invite: outside(sync, &view, &plan.invited, Refused::Ignored).await?,
        knock: outside(sync, &view, &plan.knocked, Refused::Nobody).await?,
        leave,
        presence,
        account_data: global,
        to_device: to_device.messages,
        device_lists,
        keys: KeyCounts::none(),
    })
}

/// What is beside the timelines of rooms.
struct Rooms {
    account_data: AllAccountData,
    receipts: ephemeral::Receipts,
    typing: ByRoom,
}

impl Rooms {
    async fn read(
        sync: &Sync,
        view: &View<'_>,
        since: Option<&StreamToken>,
        plan: &Plan,
        account_data: AllAccountData,
    ) -> sqlx::Result<Self> {
        Ok(Self {
            account_data,
            receipts: ephemeral::receipts(sync, view, plan).await?,
            typing: ephemeral::typing(sync, view, since, plan).await?,
        })
    }

    async fn build(
        mut self,
        sync: &Sync,
        view: &View<'_>,
        plan: &Plan,
        joined: Vec<RoomChanges>,
        left: Vec<RoomChanges>,
    ) -> sqlx::Result<(Vec<JoinedRoom>, Vec<LeftRoom>)> {
        let joined = self.with_others(sync, view, plan, joined).await?;
        let (joined_events, left_events) = {
            let all: Vec<&RoomChanges> = joined.iter().chain(&left).collect();
            let mut served = serve(sync, view, &all).await?;
            let left = served.split_off(joined.len());
            (served, left)
        };
        let changed = joined.iter().map(|room| Arc::clone(&room.room)).collect();
        let mut unread = unread::read(sync, view, changed).await?;
        let join = joined.into_iter().zip(joined_events).map(|(room, events)| {
            let nid = room.room.nid;
            let mut ephemeral = self.receipts.events.remove(&nid).unwrap_or_default();
            ephemeral.extend(self.typing.remove(&nid).unwrap_or_default());
            JoinedRoom {
                room_id: room.room.id.clone(),
                events,
                summary: room.summary,
                ephemeral,
                account_data: self.account_data.rooms.remove(&nid).unwrap_or_default(),
                unread: unread.remove(&nid).unwrap_or_default(),
            }
        });
        let join = join.collect();
        let leave = left
            .into_iter()
            .zip(left_events)
            .map(|(room, events)| LeftRoom {
                room_id: room.room.id.clone(),
                events,
                account_data: self
                    .account_data
                    .rooms
                    .remove(&room.room.nid)
                    .unwrap_or_default(),
            });
        Ok((join, leave.collect()))
    }

    /// Leaves out rooms in which nothing happened, and adds those in which only something beside the timeline did.
    async fn with_others(
        &mut self,
        sync: &Sync,
        view: &View<'_>,
        plan: &Plan,
        joined: Vec<RoomChanges>,
    ) -> sqlx::Result<Vec<RoomChanges>> {
        let of_rooms = self.account_data.rooms.keys();
        let beside: HashSet<RoomNid> = of_rooms
            .chain(self.receipts.events.keys())
            .chain(&self.receipts.own)
            .chain(self.typing.keys())
            .filter(|room| plan.all_joined.contains(room))
            .copied()
            .collect();
        let beside: Vec<RoomNid> = beside.into_iter().collect();
        let beside = sync.rooms().find_by_nids(&beside).await?;
        for (nid, room) in &beside {
            if !view.filter.ephemeral.matches_room(&room.id) {
                self.receipts.events.remove(nid);
                self.typing.remove(nid);
            }
            if !view.filter.room_account_data.matches_room(&room.id) {
                self.account_data.rooms.remove(nid);
            }
        }
        let is_told = |nid: &RoomNid| {
            self.receipts.events.contains_key(nid)
                || self.receipts.own.contains(nid)
                || self.typing.contains_key(nid)
                || self.account_data.rooms.contains_key(nid)
        };
        let mut rooms: Vec<RoomChanges> = joined
            .into_iter()
            .filter(|room| room.is_worth_telling(view) || is_told(&room.room.nid))
            .collect();
        let known: HashSet<RoomNid> = rooms.iter().map(|room| room.room.nid).collect();
        let others = beside.into_iter().filter(|(nid, room)| {
            !known.contains(nid) && is_told(nid) && view.filter.rooms.matches_room(&room.id)
        });
        rooms.extend(others.map(|(_, room)| RoomChanges::nothing(room, view)));
        Ok(rooms)
    }
}

/// Makes the events of rooms ready for the receiver, all at once.
async fn serve(
    sync: &Sync,
    view: &View<'_>,
    rooms: &[&RoomChanges],
) -> sqlx::Result<Vec<TimelineAndState>> {
    let lists = |list: fn(&RoomChanges) -> &Vec<Arc<RoomEvent>>| -> Vec<Arc<RoomEvent>> {
        rooms.iter().flat_map(|room| list(room)).cloned().collect()
    };
    let (timelines, states) = (
        lists(|room| &room.timeline.events),
        lists(|room| &room.state),
    );
    let relations = match rooms.iter().any(|room| room.may_be_referred_to()) {
        true => Relations::Bundled,
        false => Relations::Left,
    };
    let left = RoomIdField::Left;
    let timelines = sync
        .rooms()
        .serve(timelines, view.receiver, left, relations);
    let mut timelines = timelines.await?.into_iter();
    let states = sync
        .rooms()
        .serve(states, view.receiver, left, Relations::Left);
    let mut states = states.await?.into_iter();
    let served = rooms.iter().map(|room| TimelineAndState {
        timeline: timelines
            .by_ref()
            .take(room.timeline.events.len())
            .collect(),
        limited: room.timeline.limited,
        prev_batch: prev_batch(room, view),
        state: states
            .by_ref()
            .take(room.state.len())
            .collect::<Vec<ClientEvent>>(),
    });
    Ok(served.collect())
}

fn prev_batch(room: &RoomChanges, view: &View<'_>) -> String {
    let here = PageToken::Stream { order: view.to.0 };
    room.timeline.prev_batch.unwrap_or(here).to_string()
}

/// Whose invites are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    Nobody,
    Ignored,
}

/// Rooms that the user is not in, as far as he was told of them.
async fn outside(
    sync: &Sync,
    view: &View<'_>,
    rooms: &[RoomNid],
    refused: Refused,
) -> sqlx::Result<Vec<OutsideRoom>> {
    if rooms.is_empty() {
        return Ok(Vec::new());
    }
    let mut conn = sync.pool().acquire().await?;
    let rows = membership::list_of_user_in(&mut conn, view.receiver.user, rooms).await?;
    drop(conn);
    let senders: Vec<UserNid> = rows.iter().map(|row| row.sender).collect();
    let senders: HashMap<UserNid, OwnedUserId> = sync.rooms().interner().user_ids(&senders).await?;
    let known = sync.rooms().find_by_nids(rooms).await?;
    let mut told = Vec::with_capacity(rows.len());
    for row in rows {
        let sender = senders.get(&row.sender);
        let is_ignored = sender.is_some_and(|sender| view.receiver.ignored.contains(sender));
        let Some(stripped) = row.stripped else {
            continue;
        };
        if refused == Refused::Ignored && is_ignored {
            continue;
        }
        let Some(room) = known.get(&row.room) else {
            continue;
        };
        if view.filter.rooms.matches_room(&room.id) {
            let state = RawValue::from_string(stripped);
            told.push(OutsideRoom {
                room_id: room.id.clone(),
                event: row.event,
                state: state.map_err(|error| sqlx::Error::Decode(error.into()))?,
            });
        }
    }
    Ok(told)
}
