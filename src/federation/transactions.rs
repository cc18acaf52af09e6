//! Events and other messages that servers send each other.

use axum::extract::State;
use hearth_federation::{
    Inbound,
    inbound::{Transaction, TransactionError},
};
use http::StatusCode;
use ruma::api::{
    error::{ErrorKind, LimitExceededErrorData},
    federation::transactions::send_transaction_message,
};

use super::FederationState;
use crate::http::{Api, ApiError, Ruma, Signed};

/// The endpoints of this module.
pub(super) fn api() -> Api<FederationState> {
    Api::new().endpoint(send_transaction_message)
}

/// `PUT /_matrix/federation/v1/send/{txnId}`
async fn send_transaction_message(
    State(inbound): State<Inbound>,
    Signed { origin, request }: Signed<send_transaction_message::v1::Request>,
) -> Result<Ruma<send_transaction_message::v1::Response>, ApiError> {
    if request.origin != origin {
        return Err(ApiError::forbidden("the transaction is of another server"));
    }
    let transaction = Transaction {
        origin,
        txn_id: request.transaction_id,
        pdus: request.pdus,
        edus: request.edus,
    };

    let outcomes = inbound.take(transaction).await?;

    Ok(Ruma(send_transaction_message::v1::Response::new(outcomes)))
}

impl From<TransactionError> for ApiError {
    fn from(error: TransactionError) -> Self {
        match error {
            TransactionError::LongId => Self::invalid_param(error.to_string()),
            TransactionError::TooLarge => Self::bad_request(ErrorKind::TooLarge, error.to_string()),
            TransactionError::TooMany => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                ErrorKind::LimitExceeded(LimitExceededErrorData::new()),
                error.to_string(),
            ),
            TransactionError::Stopped | TransactionError::TookTooLong => Self::unavailable(),
            TransactionError::Busy(error) => error.into(),
            TransactionError::Storage(error) => error.into(),
        }
    }
}
