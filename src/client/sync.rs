//! What is new: `/sync`.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use hearth_core::token::StreamToken;
use hearth_rooms::Receiver;
use hearth_sync::{
    FullState, Request, StateMode, Sync, SyncError, SyncFilter,
    v3::{self, StateName, Style},
};
use hearth_users::Filters;
use http::{Uri, header};
use ruma::api::{
    client::{filter::FilterDefinition, sync::sync_events},
    error::ErrorKind,
};

use super::{ClientState, Requester, patience::Patience};
use crate::http::{Api, ApiError, Ruma};

/// The name of `use_state_after` before it was specified.
const UNSTABLE_STATE_AFTER: &str = "org.matrix.msc4222.use_state_after=true";

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    Api::new().endpoint(sync_events)
}

/// `GET /_matrix/client/*/sync`
async fn sync_events(
    State(sync): State<Sync>,
    State(filters): State<Filters>,
    State(patience): State<Patience>,
    requester: Requester,
    uri: Uri,
    Ruma(request): Ruma<sync_events::v3::Request>,
) -> Result<Response, ApiError> {
    let filter = Box::pin(filter(&filters, &requester, request.filter)).await?;
    let since = request.since.as_deref().filter(|since| !since.is_empty());
    let since: Option<StreamToken> = since
        .map(str::parse)
        .transpose()
        .map_err(|_| ApiError::bad_request(ErrorKind::UnknownPos, "unknown `since`"))?;
    let unstable = uri.query().is_some_and(asks_unstably);
    let state = match request.use_state_after || unstable {
        true => StateMode::AfterTimeline,
        false => StateMode::BeforeTimeline,
    };
    let request = Request {
        receiver: Receiver {
            user_id: requester.user_id().to_owned(),
            user: requester.user,
            device_id: requester.device_id().map(ToString::to_string),
            ignored: Arc::default(),
        },
        filter: Arc::clone(&filter),
        since,
        full_state: match request.full_state {
            true => FullState::All,
            false => FullState::Changed,
        },
        state,
        set_presence: request.set_presence,
        timeout: request.timeout.unwrap_or(Duration::ZERO),
    };
    let response = sync.wait(request, patience.end(&requester)).await?;
    patience.check(&requester).await?;
    let style = Style {
        filter: &filter,
        state,
        state_name: match unstable {
            true => StateName::Unstable,
            false => StateName::Stable,
        },
    };
    let body = v3::encode(&response, style).map_err(ApiError::internal)?;

    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

fn asks_unstably(query: &str) -> bool {
    query.split('&').any(|pair| pair == UNSTABLE_STATE_AFTER)
}

/// The filter that the request names or brings along.
async fn filter(
    filters: &Filters,
    requester: &Requester,
    filter: Option<sync_events::v3::Filter>,
) -> Result<Arc<SyncFilter>, ApiError> {
    let definition = match filter {
        None => FilterDefinition::default(),
        Some(sync_events::v3::Filter::FilterDefinition(definition)) => definition,
        // What is no id was meant to be JSON.
        Some(sync_events::v3::Filter::FilterId(json)) if json.trim_start().starts_with('{') => {
            serde_json::from_str(&json)?
        }
        Some(sync_events::v3::Filter::FilterId(id)) => filters.find(requester.user, &id).await?,
        Some(_) => {
            return Err(ApiError::invalid_param(
                "the filter is neither an id nor JSON",
            ));
        }
    };
    Ok(Arc::new(SyncFilter::from(definition)))
}

impl From<SyncError> for ApiError {
    fn from(error: SyncError) -> Self {
        match error {
            SyncError::UnknownPresence => Self::invalid_param("this is no presence state"),
            SyncError::Storage(error) => error.into(),
        }
    }
}
