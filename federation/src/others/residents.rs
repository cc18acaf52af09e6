//! The handshakes by which users come into rooms of other servers and leave them.

use hearth_rooms::{
    PartialInvite,
    residents::{
        Answer, Handshake, Invitation, JoinAnswer, ResidentError, Residents, Submission, Template,
        TemplateRequest,
    },
};
use ruma::{
    OwnedServerName, ServerName,
    api::{
        error::ErrorKind,
        federation::{
            membership::{
                RawStrippedState, create_invite::v2 as create_invite,
                create_join_event::v2 as create_join, create_knock_event::v1 as create_knock,
                create_leave_event::v2 as create_leave, prepare_join_event::v1 as prepare_join,
                prepare_knock_event::v1 as prepare_knock, prepare_leave_event::v1 as prepare_leave,
            },
            thirdparty::exchange_invite::v1 as exchange_invite,
        },
    },
    serde::Raw,
};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};

use super::{Others, peers::StateEvents};
use crate::{
    bounded::Bounded,
    client::{Bounds, RequestError},
    stream,
};

/// How many servers a room may be said to have.
const MOST_SERVERS: usize = 100_000;

/// What `send_join` answers, apart from what the specification has for nobody.
#[derive(Deserialize)]
struct RoomState {
    state: StateEvents,
    auth_chain: StateEvents,
    #[serde(default)]
    event: Option<Box<RawValue>>,
    #[serde(default)]
    members_omitted: bool,
    #[serde(default)]
    servers_in_room: Option<Bounded<String, MOST_SERVERS>>,
}

impl Residents for Others {
    fn template<'a>(
        &'a self,
        server: &'a ServerName,
        request: TemplateRequest<'a>,
    ) -> Answer<'a, Template> {
        Box::pin(async move {
            let (room_id, user_id) = (request.room_id.to_owned(), request.user_id.to_owned());
            let (version, event) = match request.handshake {
                Handshake::Join => {
                    let mut wanted = prepare_join::Request::new(room_id, user_id);
                    wanted.ver = request.versions.to_vec();
                    let response = self.client.send(server, wanted, Bounds::SMALL).await?;
                    (response.room_version, response.event)
                }
                Handshake::Knock => {
                    let mut wanted = prepare_knock::Request::new(room_id, user_id);
                    wanted.ver = request.versions.to_vec();
                    let response = self.client.send(server, wanted, Bounds::SMALL).await?;
                    (Some(response.room_version), response.event)
                }
                Handshake::Leave => {
                    let wanted = prepare_leave::Request::new(room_id, user_id);
                    let response = self.client.send(server, wanted, Bounds::SMALL).await?;
                    (response.room_version, response.event)
                }
            };
            Ok(Template { version, event })
        })
    }

    fn send_join<'a>(
        &'a self,
        server: &'a ServerName,
        join: Submission<'a>,
    ) -> Answer<'a, JoinAnswer> {
        Box::pin(async move {
            let request = create_join::Request::new(
                join.room_id.to_owned(),
                join.event_id.to_owned(),
                join.event.to_owned(),
            );
            let time = Bounds::ROOM.time;
            let response = self.client.open(server, request, time).await?;
            let body = response.into_body();
            let answer: RoomState =
                stream::parse(body, Bounds::ROOM, (self.client.intake(), &self.tasks)).await?;
            let servers = answer.servers_in_room.unwrap_or_default();
            Ok(JoinAnswer {
                state: answer.state.0,
                auth_chain: answer.auth_chain.0,
                event: answer.event,
                members_omitted: answer.members_omitted,
                servers_in_room: servers
                    .0
                    .into_iter()
                    .filter_map(|name| OwnedServerName::try_from(name).ok())
                    .collect(),
            })
        })
    }

    fn send_knock<'a>(
        &'a self,
        server: &'a ServerName,
        knock: Submission<'a>,
    ) -> Answer<'a, Vec<Box<RawValue>>> {
        Box::pin(async move {
            let request = create_knock::Request::new(
                knock.room_id.to_owned(),
                knock.event_id.to_owned(),
                knock.event.to_owned(),
            );
            let response = self.client.send(server, request, Bounds::SMALL).await?;
            Ok(response.knock_room_state.iter().map(raw).collect())
        })
    }

    fn send_leave<'a>(&'a self, server: &'a ServerName, leave: Submission<'a>) -> Answer<'a, ()> {
        Box::pin(async move {
            let request = create_leave::Request::new(
                leave.room_id.to_owned(),
                leave.event_id.to_owned(),
                leave.event.to_owned(),
            );
            self.client.send(server, request, Bounds::SMALL).await?;
            Ok(())
        })
    }

    fn exchange_invite<'a>(
        &'a self,
        server: &'a ServerName,
        invite: &'a PartialInvite,
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            let content = to_raw_value(&invite.content).map_err(|_| ResidentError::Unreachable)?;
            let request = exchange_invite::Request::new(
                invite.room_id.clone(),
                invite.sender.clone(),
                invite.state_key.clone(),
                Raw::from_json(content),
            );
            self.client.send(server, request, Bounds::SMALL).await?;
            Ok(())
        })
    }

    fn invite<'a>(
        &'a self,
        server: &'a ServerName,
        invitation: Invitation<'a>,
    ) -> Answer<'a, Box<RawValue>> {
        Box::pin(async move {
            let told = invitation.room_state.iter().cloned();
            let request = create_invite::Request::new(
                invitation.room_id.to_owned(),
                invitation.event_id.to_owned(),
                invitation.version.clone(),
                invitation.event.to_owned(),
                told.map(RawStrippedState::Pdu).collect(),
            );
            let response = self.client.send(server, request, Bounds::SMALL).await?;
            Ok(response.event)
        })
    }
}

/// State that tells what room it is: whole events, or stripped ones from servers of before.
fn raw(state: &RawStrippedState) -> Box<RawValue> {
    to_raw_value(state).expect("raw JSON serializes")
}

impl From<RequestError> for ResidentError {
    fn from(error: RequestError) -> Self {
        tracing::debug!("another server does not help: {error}");
        match error {
            RequestError::Refused {
                status,
                kind,
                message,
            } => Self::Refused {
                status: status.as_u16(),
                kind: Box::new(kind.unwrap_or(ErrorKind::Unknown)),
                message,
            },
            RequestError::Ourselves
            | RequestError::BadRequest(_)
            | RequestError::Unreachable(_)
            | RequestError::TooLong
            | RequestError::TooLarge
            | RequestError::Malformed(_) => Self::Unreachable,
        }
    }
}
