//! Where a request comes from.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
};

use axum::extract::FromRequestParts;
use http::{HeaderMap, request::Parts};

/// The address of the client, when it is known.
///
/// It is unknown on a unix socket, unless a reverse proxy is believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientAddress(Option<IpAddr>);

impl ClientAddress {
    /// An address, or none.
    #[must_use]
    pub fn new(ip: Option<IpAddr>) -> Self {
        Self(ip)
    }

    /// What the proxy in front wrote into `X-Forwarded-For`, or else `peer`.
    ///
    /// Only the last address is the proxy's; all before it may be the client's invention.
    pub(super) fn forwarded(headers: &HeaderMap, peer: Self) -> Self {
        let last = headers
            .get_all("x-forwarded-for")
            .iter()
            .next_back()
            .and_then(|value| value.to_str().ok())
            .and_then(|list| list.rsplit(',').next())
            .map(str::trim);
        let parsed = last.and_then(|text| {
            let socket = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
            text.parse::<IpAddr>().ok().or_else(socket)
        });
        parsed.map_or(peer, |ip| Self(Some(ip)))
    }

    /// The address.
    #[must_use]
    pub fn ip(self) -> Option<IpAddr> {
        self.0
    }
}

impl<S: Sync> FromRequestParts<S> for ClientAddress {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().copied().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded(header: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", header.parse().unwrap());
        let peer = ClientAddress::new(Some("127.0.0.1".parse().unwrap()));
        ClientAddress::forwarded(&headers, peer)
            .ip()
            .map(|ip| ip.to_string())
    }

    #[test]
    fn the_last_address_is_believed() {
        assert_eq!(
            forwarded("10.0.0.1, 192.0.2.7").as_deref(),
            Some("192.0.2.7")
        );
        assert_eq!(forwarded("2001:db8::1").as_deref(), Some("2001:db8::1"));
        assert_eq!(forwarded("192.0.2.7:1234").as_deref(), Some("192.0.2.7"));
        assert_eq!(forwarded("unknown").as_deref(), Some("127.0.0.1"));
    }
}
