//! Making rooms.

use std::{collections::HashSet, sync::Arc};

use axum::extract::{FromRef, State};
use hearth_core::{UserNid, config::Config};
use hearth_push::Successions;
use hearth_rooms::{Creation, Draft, Member, Preset, Rooms};
use hearth_users::Profiles;
use ruma::{
    CanonicalJsonObject, OwnedRoomAliasId, RoomAliasId, RoomId, UserId,
    api::{
        client::room::{
            Visibility,
            create_room::{self, v3::RoomPreset},
        },
        error::ErrorKind,
    },
    events::TimelineEventType,
};
use serde::Deserialize;

use super::{ClientState, Requester, send::object};
use crate::http::{Api, ApiError, RateLimits, Ruma, limit::Action};

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    Api::new().endpoint(create_room)
}

/// `POST /_matrix/client/*/createRoom`
async fn create_room(
    State(arrivals): State<Arrivals>,
    State(profiles): State<Profiles>,
    State(config): State<Arc<Config>>,
    State(limits): State<RateLimits>,
    requester: Requester,
    Ruma(request): Ruma<create_room::v3::Request>,
) -> Result<Ruma<create_room::v3::Response>, ApiError> {
    requester.refuse_suspended()?;
    limits.check_user(Action::Join, requester.user_id())?;
    let creation = creation(
        &arrivals.rooms,
        &profiles,
        &config,
        requester.user_id(),
        request,
    )
    .await?;

    let room_id = arrivals.rooms.create(&creation).await?;
    arrivals.take_along(&requester, &room_id).await;

    Ok(Ruma(create_room::v3::Response::new(room_id)))
}

async fn creation(
    rooms: &Rooms,
    profiles: &Profiles,
    config: &Config,
    creator: &UserId,
    request: create_room::v3::Request,
) -> Result<Creation, ApiError> {
    if !request.invite_3pid.is_empty() {
        return Err(ApiError::bad_request(
            ErrorKind::ThreepidDenied,
            "this server asks no identity server: invite by user id",
        ));
    }
    Creation::check_size(request.invite.len(), request.initial_state.len())?;
    let published = request.visibility == Visibility::Public;
    let mut initial_state = Vec::with_capacity(request.initial_state.len());
    for event in &request.initial_state {
        initial_state.push(initial(event.json().get())?);
    }
    let alias = alias(config, request.room_alias_name.as_deref())?;
    let mut known = HashSet::from([creator]);
    let invited = request.invite.iter().map(AsRef::as_ref);
    let invited: Vec<&UserId> = invited.filter(|user| known.insert(*user)).collect();
    Ok(Creation {
        creator: member(rooms, profiles, creator).await?,
        version: request
            .room_version
            .unwrap_or_else(|| config.rooms.default_version.clone()),
        preset: preset(request.preset.as_ref(), published)?,
        published,
        creation_content: request
            .creation_content
            .as_ref()
            .map(object)
            .transpose()?
            .unwrap_or_default(),
        power_level_content_override: request
            .power_level_content_override
            .as_ref()
            .map(object)
            .transpose()?
            .unwrap_or_default(),
        initial_state,
        name: request.name.filter(|name| !name.is_empty()),
        topic: request.topic,
        alias,
        invite: members(rooms, profiles, &invited).await?,
        is_direct: request.is_direct,
    })
}

/// Rooms, and what users take along into those that replaced others.
#[derive(Clone, Debug)]
pub(super) struct Arrivals {
    pub(super) rooms: Rooms,
    successions: Successions,
}

impl FromRef<ClientState> for Arrivals {
    fn from_ref(state: &ClientState) -> Self {
        Self {
            rooms: state.rooms.clone(),
            successions: state.successions.clone(),
        }
    }
}

impl Arrivals {
    /// Gives a requester who came into a room what he has of the room that it replaced; he is in, even if that fails.
    pub(super) async fn take_along(&self, requester: &Requester, room_id: &RoomId) {
        let outcome = match self.rooms.find(room_id).await {
            Ok(Some(room)) => {
                let (user, user_id) = (requester.user, requester.user_id());
                self.successions.take_along(user, user_id, &room).await
            }
            Ok(None) => Ok(()),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = outcome {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(%room_id, error, "not all of a replaced room was taken along");
        }
    }
}

/// A user with the profile that this server knows; remote profiles come with their member events.
pub(super) async fn member(
    rooms: &Rooms,
    profiles: &Profiles,
    user: &UserId,
) -> Result<Member, ApiError> {
    let mut members = members(rooms, profiles, &[user]).await?;
    Ok(members.pop().expect("there is one for each user"))
}

/// Like [`member`], for many users at once, in their order.
async fn members(
    rooms: &Rooms,
    profiles: &Profiles,
    users: &[&UserId],
) -> Result<Vec<Member>, ApiError> {
    let nids = rooms.interner().find_users(users).await?;
    let known: Vec<UserNid> = nids.values().copied().collect();
    let mut shown = profiles.shown(&known).await?;
    let members = users.iter().map(|user| {
        let nid = nids.get(*user);
        let shown = nid.and_then(|nid| shown.remove(nid)).unwrap_or_default();
        Member {
            user_id: (*user).to_owned(),
            display_name: shown.display_name,
            avatar_url: shown.avatar_url,
            more: CanonicalJsonObject::new(),
        }
    });
    Ok(members.collect())
}

fn preset(preset: Option<&RoomPreset>, published: bool) -> Result<Preset, ApiError> {
    match preset {
        Some(RoomPreset::PrivateChat) => Ok(Preset::Private),
        Some(RoomPreset::TrustedPrivateChat) => Ok(Preset::TrustedPrivate),
        Some(RoomPreset::PublicChat) => Ok(Preset::Public),
        Some(_) => Err(ApiError::invalid_param("there is no such preset")),
        None if published => Ok(Preset::Public),
        None => Ok(Preset::Private),
    }
}

fn alias(config: &Config, localpart: Option<&str>) -> Result<Option<OwnedRoomAliasId>, ApiError> {
    let Some(localpart) = localpart.filter(|localpart| !localpart.is_empty()) else {
        return Ok(None);
    };
    let valid = !localpart.contains([':', '\0']) && !localpart.starts_with('#');
    let alias = RoomAliasId::parse(format!("#{localpart}:{}", config.server_name));
    match alias {
        Ok(alias) if valid => Ok(Some(alias)),
        Ok(_) | Err(_) => Err(ApiError::invalid_param(
            "`room_alias_name` is the part of an alias between # and :",
        )),
    }
}

/// An event of `initial_state`.
fn initial(json: &str) -> Result<Draft, ApiError> {
    #[derive(Deserialize)]
    struct Initial {
        #[serde(rename = "type")]
        kind: TimelineEventType,
        #[serde(default)]
        state_key: String,
        content: CanonicalJsonObject,
    }
    let Initial {
        kind,
        state_key,
        content,
    } = serde_json::from_str(json).map_err(|error| {
        ApiError::bad_request(ErrorKind::BadJson, format!("`initial_state`: {error}"))
    })?;
    Ok(Draft::state(kind, state_key, content))
}
