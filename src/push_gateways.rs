//! How push gateways are reached.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use hearth_core::config;
use hearth_federation::{
    Bounds, RequestError, Web, discovery::address::Reach, trust::TrustError, web::Encryption,
};
use hearth_push::{GatewayError, Gateways};

/// How long a gateway may take, and how large its answer may be.
const BOUNDS: Bounds = Bounds {
    time: Duration::from_secs(10),
    size: 64 * 1024,
};

/// Push gateways on the internet.
#[derive(Debug)]
struct OnTheWeb(Web);

/// The way to push gateways.
///
/// # Errors
///
/// When the additional root certificate cannot be used.
pub fn open(config: &config::Push) -> Result<Arc<dyn Gateways>, TrustError> {
    let reach = match config.allow_private_addresses {
        true => Reach::Anywhere,
        false => Reach::Public,
    };
    let encryption = match config.allow_http {
        true => Encryption::Optional,
        false => Encryption::Required,
    };
    let web = Web::new(reach, encryption, config.ca_file.as_deref())?;
    Ok(Arc::new(OnTheWeb(web)))
}

impl Gateways for OnTheWeb {
    fn notify<'a>(
        &'a self,
        url: &'a str,
        body: Vec<u8>,
    ) -> BoxFuture<'a, Result<Vec<u8>, GatewayError>> {
        Box::pin(async move {
            match self.0.post_json(url, body, BOUNDS).await {
                Ok(answer) => Ok(answer.into()),
                Err(error @ (RequestError::Unreachable(_) | RequestError::TooLong)) => {
                    Err(GatewayError::Unreachable(error.to_string()))
                }
                Err(error) => Err(GatewayError::Refused(error.to_string())),
            }
        })
    }
}
