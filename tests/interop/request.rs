//! A request of the client-server API, put together in steps.

use std::fmt::Display;

use reqwest::{
    Method, Url,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use serde_json::Value;

use super::homeserver::Homeserver;

/// A request that was not sent yet.
pub(crate) struct Request {
    http: reqwest::Client,
    ready: reqwest::Request,
    what: String,
}

impl Request {
    /// A request to `path`, what comes after `/_matrix/client`, segment by segment.
    pub(crate) fn new(server: &Homeserver, method: Method, path: &[&str]) -> Self {
        let mut url = Url::parse(&server.address()).unwrap();
        url.path_segments_mut()
            .expect("it is http")
            .extend(["_matrix", "client"])
            .extend(path);
        Self {
            what: format!("{method} {} of {}", url.path(), server.name),
            http: server.http().clone(),
            ready: reqwest::Request::new(method, url),
        }
    }

    /// Says who asks.
    pub(crate) fn token(mut self, token: &str) -> Self {
        let value = format!("Bearer {token}").parse().unwrap();
        self.ready.headers_mut().insert(AUTHORIZATION, value);
        self
    }

    /// Adds a parameter to the query.
    pub(crate) fn query(mut self, name: &str, value: impl Display) -> Self {
        let url = self.ready.url_mut();
        url.query_pairs_mut().append_pair(name, &format!("{value}"));
        self
    }

    pub(crate) fn body(mut self, body: &Value) -> Self {
        let json = "application/json".parse().unwrap();
        self.ready.headers_mut().insert(CONTENT_TYPE, json);
        *self.ready.body_mut() = Some(body.to_string().into());
        self
    }

    /// Sends it and gives the status and the answer.
    pub(crate) async fn send(self) -> (u16, Value) {
        let Self { http, ready, what } = self;
        let answer = match http.execute(ready).await {
            Ok(answer) => answer,
            Err(error) => panic!("{what}: {error:?}"),
        };
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        match serde_json::from_str(&text) {
            Ok(body) => (status, body),
            Err(error) => panic!("{what}: {status} {text}: {error}"),
        }
    }

    /// Sends it; it must go well.
    pub(crate) async fn ok(self) -> Value {
        let what = self.what.clone();
        let (status, answer) = self.send().await;
        assert_eq!(status, 200, "{what}: {answer}");
        answer
    }

    /// Sends it; it must be refused so.
    pub(crate) async fn refused(self, status: u16, code: &str) {
        let what = self.what.clone();
        let (was, answer) = self.send().await;
        assert_eq!(
            (was, answer["errcode"].as_str()),
            (status, Some(code)),
            "{what}: {answer}"
        );
    }
}
