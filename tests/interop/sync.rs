//! What a user's client heard from `/sync`, kept from its first answer on.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{homeserver::Homeserver, request::Request};

/// How long anything may take to come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The answers of `/sync` so far; nothing is missed by whoever asks late.
pub(crate) struct News {
    answers: Vec<Value>,
}

impl News {
    /// Begins to listen: a room that its user has left is only in later answers.
    pub(crate) async fn begin(server: &Homeserver, token: &str) -> Self {
        let mut news = Self {
            answers: Vec::new(),
        };
        news.next(server, token).await;
        news
    }

    /// Gives the first thing that `find` finds in an answer, waiting for it to come.
    pub(crate) async fn until<T>(
        &mut self,
        (server, token): (&Homeserver, &str),
        find: impl Fn(&Value) -> Option<T>,
    ) -> Option<T> {
        if let Some(found) = self.answers.iter().find_map(&find) {
            return Some(found);
        }
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            let answer = self.next(server, token).await;
            let found = find(answer);
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// All that came, for whoever has to find out why something did not.
    pub(crate) fn heard(&self) -> String {
        self.answers
            .iter()
            .map(|answer| json!({ "rooms": answer["rooms"] }).to_string())
            .collect::<Vec<_>>()
            .join("\n")
    }

    async fn next(&mut self, server: &Homeserver, token: &str) -> &Value {
        let mut request = Request::new(server, reqwest::Method::GET, &["v3", "sync"])
            .token(token)
            .query("timeout", 2_000)
            .query(
                "filter",
                json!({ "room": { "timeline": { "limit": 100 } } }),
            );
        if let Some(last) = self.answers.last() {
            let token = last["next_batch"].as_str().expect("it is a string");
            request = request.query("since", token);
        }
        let answer = request.ok().await;
        self.answers.push(answer);
        self.answers.last().expect("it was just put there")
    }
}

/// The events of a room in an answer, in whatever part of it they are.
pub(crate) fn events<'a>(answer: &'a Value, room: &'a str) -> impl Iterator<Item = &'a Value> {
    let places = [
        ("join", "state"),
        ("join", "timeline"),
        ("invite", "invite_state"),
        ("knock", "knock_state"),
        ("leave", "state"),
        ("leave", "timeline"),
    ];
    places
        .into_iter()
        .filter_map(move |(kind, part)| answer["rooms"][kind][room][part]["events"].as_array())
        .flatten()
}

/// The ephemeral events of a room in an answer that have the type `kind`.
pub(crate) fn ephemeral<'a>(
    answer: &'a Value,
    room: &'a str,
    kind: &'a str,
) -> impl Iterator<Item = &'a Value> {
    answer["rooms"]["join"][room]["ephemeral"]["events"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(move |event| event["type"] == kind)
}
