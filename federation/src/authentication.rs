//! Who makes a request (Server-Server API, "Request Authentication").

use std::sync::Arc;

use hearth_core::{Clock, Identity};
use http::{Method, Uri, header};
use ruma::{
    OwnedServerName, ServerName, SigningKeyAlgorithm, api::federation::authentication::XMatrix,
    serde::Base64, signatures::verify_canonical_json_bytes,
};
use serde_json::Value;

use crate::{
    canonical,
    keys::{KeyError, Keys, Wanted},
};

/// How many headers of a request are looked at.
const MOST_HEADERS: usize = 4;

/// Checks the signatures of requests.
#[derive(Clone, Debug)]
pub struct Authenticator {
    keys: Keys,
    identity: Arc<Identity>,
    clock: Clock,
}

/// What the `Authorization` header of a request claims, which is not checked yet.
#[derive(Clone, Debug)]
pub struct Claim(XMatrix);

/// Why a request is not believed.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticationError {
    /// There is no signature.
    #[error("the request is not signed")]
    Missing,
    /// The header cannot be read.
    #[error("the authorization header is malformed: {0}")]
    Malformed(String),
    /// It is meant for another server.
    #[error("the request is meant for another server")]
    OtherDestination,
    /// It claims to come from us.
    #[error("this server makes no requests to itself")]
    Ourselves,
    /// The key is not known, or not valid any more.
    #[error("the key that signed the request cannot be had")]
    UnknownKey,
    /// The body is no JSON.
    #[error("the body is malformed: {0}")]
    Body(#[from] serde_json::Error),
    /// The signature is wrong.
    #[error("the signature is wrong")]
    WrongSignature,
    /// Keys could not be read.
    #[error("the signature could not be checked")]
    Keys(#[from] KeyError),
}

impl Claim {
    /// Reads the header.
    ///
    /// # Errors
    ///
    /// [`AuthenticationError::Missing`], [`AuthenticationError::Malformed`].
    pub fn read(headers: &http::HeaderMap) -> Result<Self, AuthenticationError> {
        // A request may be signed with several keys, each in a header of its own: the first that can be read counts.
        let values = headers.get_all(header::AUTHORIZATION).iter();
        let mut failure = AuthenticationError::Missing;
        for value in values.take(MOST_HEADERS) {
            match XMatrix::try_from(value) {
                Ok(header) if header.key.algorithm() == SigningKeyAlgorithm::Ed25519 => {
                    return Ok(Self(header));
                }
                Ok(_) => failure = AuthenticationError::UnknownKey,
                Err(error) => failure = AuthenticationError::Malformed(error.to_string()),
            }
        }
        Err(failure)
    }

    /// Who claims to make the request.
    #[must_use]
    pub fn origin(&self) -> &ServerName {
        &self.0.origin
    }
}

impl Authenticator {
    /// Checks requests to `identity`.
    #[must_use]
    pub fn new(keys: Keys, identity: Arc<Identity>, clock: Clock) -> Self {
        Self {
            keys,
            identity,
            clock,
        }
    }

    /// Checks that the server that `claim` names made a request; returns its name. The key must be in use now.
    ///
    /// # Errors
    ///
    /// See [`AuthenticationError`].
    pub async fn check(
        &self,
        claim: &Claim,
        request: Content<'_>,
    ) -> Result<OwnedServerName, AuthenticationError> {
        let Claim(header) = claim;
        let own = &self.identity.server_name;
        if header.destination.as_ref().is_some_and(|name| name != own) {
            return Err(AuthenticationError::OtherDestination);
        }
        if header.origin == *own {
            return Err(AuthenticationError::Ourselves);
        }
        if header.key.algorithm() != SigningKeyAlgorithm::Ed25519 {
            return Err(AuthenticationError::UnknownKey);
        }
        let key = self.key(header).await?;
        let signed = request.signed(&header.origin, own)?;
        verify_canonical_json_bytes(
            &SigningKeyAlgorithm::Ed25519,
            key.as_bytes(),
            header.sig.as_bytes(),
            signed.as_bytes(),
        )
        .map_err(|_| AuthenticationError::WrongSignature)?;
        Ok(header.origin.clone())
    }

    async fn key(&self, header: &XMatrix) -> Result<Base64, AuthenticationError> {
        let wanted = Wanted {
            server: header.origin.clone(),
            key_id: header.key.clone(),
            at: Some(self.clock.millis()),
        };
        let keys = self.keys.find(&[wanted]).await?;
        let key = keys.into_values().next();
        key.ok_or(AuthenticationError::UnknownKey)
    }
}

/// What of a request is signed.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a> {
    /// The method.
    pub method: &'a Method,
    /// The address.
    pub uri: &'a Uri,
    /// The body as it came.
    pub body: &'a [u8],
}

impl Content<'_> {
    /// The text that the origin signed.
    ///
    /// Numbers stay as they are: a transaction may hold events that are no canonical JSON, which are refused one by one.
    ///
    /// # Errors
    ///
    /// When the body is no JSON.
    pub fn signed(
        &self,
        origin: &ServerName,
        destination: &ServerName,
    ) -> Result<String, serde_json::Error> {
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut text = String::from("{");
        if !self.body.is_empty() {
            text.push_str("\"content\":");
            canonical::write(&mut text, self.body)?;
            text.push(',');
        }
        let rest = [
            ("destination", destination.as_str()),
            ("method", self.method.as_str()),
            ("origin", origin.as_str()),
            ("uri", path),
        ];
        let rest = rest.map(|(name, value)| format!("\"{name}\":{}", Value::from(value)));
        text.push_str(&rest.join(","));
        text.push('}');
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ruma::server_name;

    use super::*;

    #[test]
    fn what_is_signed_is_sorted_and_without_spaces() {
        let content = Content {
            method: &Method::PUT,
            uri: &Uri::from_static("/_matrix/federation/v1/send/1?a=%20b"),
            body: "{ \"b\": [1.5, {\"z\": null, \"a\": \"\\u00e9\\n\"}], \"a\": true }".as_bytes(),
        };

        let signed = content.signed(server_name!("o.example"), server_name!("d.example"));

        assert_eq!(
            signed.unwrap(),
            r#"{"content":{"a":true,"b":[1.5,{"a":"é\n","z":null}]},"destination":"d.example","method":"PUT","origin":"o.example","uri":"/_matrix/federation/v1/send/1?a=%20b"}"#
        );
    }

    #[test]
    fn one_of_several_headers_is_enough() {
        let mut headers = http::HeaderMap::new();
        headers.append(header::AUTHORIZATION, "Bearer x".parse().unwrap());
        let claim =
            r#"X-Matrix origin="o.example",destination="d.example",key="ed25519:1",sig="AAAA""#;
        headers.append(header::AUTHORIZATION, claim.parse().unwrap());

        let claim = Claim::read(&headers).unwrap();

        assert_eq!(claim.origin(), "o.example");
        headers.clear();
        let error = Claim::read(&headers).unwrap_err();
        assert!(matches!(error, AuthenticationError::Missing));
    }

    #[test]
    fn endless_nesting_is_no_content() {
        let body = "[".repeat(100_000);
        let content = Content {
            method: &Method::PUT,
            uri: &Uri::from_static("/"),
            body: body.as_bytes(),
        };

        let signed = content.signed(server_name!("o.example"), server_name!("d.example"));

        assert!(signed.is_err());
    }

    proptest! {
        #[test]
        fn a_header_of_any_kind_is_read_or_refused(
            begin in "(X-Matrix |x-matrix\t)?",
            fields in prop::collection::vec(
                ("(origin|destination|key|sig|x)?", "=?\"?", "[ -~\\x80-\\xff]{0,12}", "[\",]{0,2}"), 0..6,
            ),
        ) {
            let fields: String = fields.into_iter().map(|(a, b, c, d)| a + &b + &c + &d).collect();
            let Ok(value) = http::HeaderValue::from_bytes((begin + &fields).as_bytes()) else {
                return Ok(());
            };
            let headers = http::HeaderMap::from_iter([(header::AUTHORIZATION, value)]);

            if let Ok(claim) = Claim::read(&headers) {
                prop_assert!(!claim.origin().as_str().is_empty());
            }
        }
    }
}
