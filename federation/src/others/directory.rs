//! What other servers' directories know.

use futures_util::future::BoxFuture;
use hearth_rooms::{
    directory::{
        ListQuery, PublicRooms, RemoteDirectory, RemoteSpace, Resolved, SpaceChild, SpaceRoom,
    },
    peers::RemoteError,
};
use ruma::{
    OwnedRoomId, OwnedServerName, RoomAliasId, RoomId, ServerName,
    api::federation::{
        directory::get_public_rooms_filtered::v1 as get_public_rooms,
        query::get_room_information::v1 as get_room_information,
        space::get_hierarchy::v1 as get_hierarchy,
    },
};
use std::sync::Arc;

use super::{Others, remote};
use crate::client::{Bounds, RequestError};

/// How many servers are asked about a space.
const MOST_SERVERS: usize = 5;

/// How many servers of a room an alias may name.
const MOST_NAMED: usize = 100;

/// How many rooms a page may have.
const LARGEST_PAGE: usize = 1_000;

/// What is remembered of other servers' answers about a space.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// One told about it.
    Told(Arc<RemoteSpace>),
    /// None could be reached.
    Silence,
}

impl RemoteDirectory for Others {
    fn resolve<'a>(
        &'a self,
        alias: &'a RoomAliasId,
    ) -> BoxFuture<'a, Result<Option<Resolved>, RemoteError>> {
        Box::pin(async move {
            let request = get_room_information::Request::new(alias.to_owned());
            let asked = self
                .client
                .send(alias.server_name(), request, Bounds::SMALL);
            match asked.await {
                Ok(mut response) => {
                    response.servers.truncate(MOST_NAMED);
                    Ok(Some(Resolved {
                        room_id: response.room_id,
                        servers: response.servers,
                    }))
                }
                Err(RequestError::Refused { status, .. }) if status.as_u16() == 404 => Ok(None),
                Err(error) => Err(remote(&error)),
            }
        })
    }

    fn public_rooms<'a>(
        &'a self,
        server: &'a ServerName,
        query: &'a ListQuery,
    ) -> BoxFuture<'a, Result<PublicRooms, RemoteError>> {
        Box::pin(async move {
            let mut request = get_public_rooms::Request::new();
            request.limit = query.limit;
            request.since.clone_from(&query.since);
            request.filter = query.filter.clone();
            request.room_network = query.network.clone();
            let response = self.client.send(server, request, Bounds::SMALL).await;
            let mut response = response.map_err(|error| remote(&error))?;
            response.chunk.truncate(LARGEST_PAGE);
            Ok(PublicRooms {
                chunk: response.chunk,
                next_batch: response.next_batch,
                prev_batch: response.prev_batch,
                total: response.total_room_count_estimate,
            })
        })
    }

    fn space<'a>(
        &'a self,
        room_id: &'a RoomId,
        via: &'a [OwnedServerName],
        suggested_only: bool,
    ) -> BoxFuture<'a, Option<RemoteSpace>> {
        Box::pin(async move {
            let via: Vec<OwnedServerName> = via.iter().take(MOST_SERVERS).cloned().collect();
            let key = (room_id.to_owned(), via, suggested_only);
            let answer = self
                .spaces
                .optionally_get_with_by_ref(&key, self.ask_about_space(&key))
                .await;
            match answer {
                Some(Answer::Told(space)) => Some(RemoteSpace::clone(&space)),
                Some(Answer::Silence) | None => None,
            }
        })
    }
}

impl Others {
    /// Asks one server after the other; `None` when one refuses and none tells. That is not remembered, since it changes as
    /// soon as one of our users comes into a room whose members may see the space.
    async fn ask_about_space(
        &self,
        (room_id, via, suggested_only): &(OwnedRoomId, Vec<OwnedServerName>, bool),
    ) -> Option<Answer> {
        let mut otherwise = Some(Answer::Silence);
        for server in via {
            let mut request = get_hierarchy::Request::new(room_id.clone());
            request.suggested_only = *suggested_only;
            match self.client.send(server, request, Bounds::SMALL).await {
                Ok(response) if response.room.summary.room_id == *room_id => {
                    return Some(Answer::Told(Arc::new(space(response))));
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%server, %room_id, "no answer about a space: {error}");
                    if error.is_refusal() {
                        otherwise = None;
                    }
                }
            }
        }
        otherwise
    }
}

fn space(response: get_hierarchy::Response) -> RemoteSpace {
    let children = response.room.children_state.into_iter();
    let children = children.filter_map(|child| SpaceChild::parse(child.into_json()));
    RemoteSpace {
        room: SpaceRoom {
            summary: response.room.summary,
            children: children.collect(),
        },
        children: response.children,
        inaccessible: response.inaccessible_children,
    }
}
