//! Messages to devices.

use axum::extract::State;
use hearth_federation::Outbound;
use hearth_users::{ToDevice, to_device::ToDeviceError};
use ruma::api::client::to_device::send_event_to_device;

use super::{ClientState, Requester};
use crate::http::{Api, ApiError, Ruma};

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    Api::new().endpoint(send_event_to_device)
}

/// `PUT /_matrix/client/*/sendToDevice/{eventType}/{txnId}`
async fn send_event_to_device(
    State(to_device): State<ToDevice>,
    State(outbound): State<Option<Outbound>>,
    requester: Requester,
    Ruma(request): Ruma<send_event_to_device::v3::Request>,
) -> Result<Ruma<send_event_to_device::v3::Response>, ApiError> {
    let (txn_id, kind) = (&request.txn_id, &request.event_type);

    let servers = to_device
        .send(&requester, txn_id, kind, &request.messages)
        .await?;
    if let Some(outbound) = outbound {
        outbound.send_messages(&servers).await?;
    }

    Ok(Ruma(send_event_to_device::v3::Response::new()))
}

impl From<ToDeviceError> for ApiError {
    fn from(error: ToDeviceError) -> Self {
        match error {
            ToDeviceError::TooMany | ToDeviceError::TooLarge => Self::too_large(error.to_string()),
            ToDeviceError::Write(error) => error.into(),
        }
    }
}
