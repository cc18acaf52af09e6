//! The devices of a user.

use axum::extract::State;
use hearth_store::device::DeviceRow;
use hearth_users::{Devices, Uia, devices::RenameError};
use ruma::api::client::device::{
    Device, delete_device, delete_devices, get_device, get_devices, update_device,
};

use super::{ClientState, Requester, admin::timestamp};
use crate::http::{Api, ApiError, Interactive, Ruma};

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    Api::new()
        .endpoint(get_devices)
        .endpoint(get_device)
        .endpoint(update_device)
        .endpoint(delete_device)
        .endpoint(delete_devices)
}

/// `GET /_matrix/client/*/devices`
async fn get_devices(
    State(devices): State<Devices>,
    requester: Requester,
    _: Ruma<get_devices::v3::Request>,
) -> Result<Ruma<get_devices::v3::Response>, ApiError> {
    let devices = devices.list(requester.user).await?;

    let devices = devices.into_iter().map(device).collect();
    Ok(Ruma(get_devices::v3::Response::new(devices)))
}

/// `GET /_matrix/client/*/devices/{deviceId}`
async fn get_device(
    State(devices): State<Devices>,
    requester: Requester,
    Ruma(request): Ruma<get_device::v3::Request>,
) -> Result<Ruma<get_device::v3::Response>, ApiError> {
    let found = devices.find(requester.user, &request.device_id).await?;

    let found = found.ok_or(RenameError::NotFound)?;
    Ok(Ruma(get_device::v3::Response::new(device(found))))
}

/// `PUT /_matrix/client/*/devices/{deviceId}`
async fn update_device(
    State(devices): State<Devices>,
    requester: Requester,
    Ruma(request): Ruma<update_device::v3::Request>,
) -> Result<Ruma<update_device::v3::Response>, ApiError> {
    let name = request.display_name.as_deref();
    devices
        .rename(requester.user, &request.device_id, name)
        .await?;

    Ok(Ruma(update_device::v3::Response::new()))
}

/// `DELETE /_matrix/client/*/devices/{deviceId}`
async fn delete_device(
    State(devices): State<Devices>,
    State(uia): State<Uia>,
    requester: Requester,
    request: Interactive<delete_device::v3::Request>,
) -> Result<Ruma<delete_device::v3::Response>, ApiError> {
    let request = request.authenticate(&uia, &requester).await?.request;
    let ids = [request.device_id.to_string()];
    devices.remove(requester.user, &ids).await?;

    Ok(Ruma(delete_device::v3::Response::new()))
}

/// `POST /_matrix/client/*/delete_devices`
async fn delete_devices(
    State(devices): State<Devices>,
    State(uia): State<Uia>,
    requester: Requester,
    request: Interactive<delete_devices::v3::Request>,
) -> Result<Ruma<delete_devices::v3::Response>, ApiError> {
    let request = request.authenticate(&uia, &requester).await?.request;
    let ids: Vec<_> = request.devices.iter().map(ToString::to_string).collect();
    devices.remove(requester.user, &ids).await?;

    Ok(Ruma(delete_devices::v3::Response::new()))
}

fn device(row: DeviceRow) -> Device {
    let mut device = Device::new(row.device_id.into());
    device.display_name = row.display_name;
    device.last_seen_ip = row.last_seen_ip;
    device.last_seen_ts = row.last_seen_ts.and_then(timestamp);
    device
}

impl From<RenameError> for ApiError {
    fn from(error: RenameError) -> Self {
        match error {
            RenameError::NotFound => Self::not_found("there is no such device"),
            RenameError::Storage(error) => error.into(),
            RenameError::Journal(_) => Self::internal(error),
        }
    }
}
