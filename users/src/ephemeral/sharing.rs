//! How processes share typing and presence.
//!
//! A change is told through Redis and counts when it comes back from there, so that all processes hear of the changes in
//! one order and count them alike: a client may go on with its token at any of them. While Redis is away each process
//! knows what its own clients do, and they tell each other everything when it is back. Facts speak of durations, never
//! of times, since clocks differ.

use std::time::Duration;

use hearth_core::{RoomNid, UserNid};
use hearth_journal::{Exchange, Heard, Outgoing};
use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::Ephemeral;
use crate::{Presence, Typing};

/// Messages of another version are not read.
const VERSION: u8 = 1;

/// How many facts one message holds at the most.
const CHUNK: usize = 500;

/// How often the others are reminded of users who are still connected.
pub(crate) const REMINDER: Duration = Duration::from_secs(20);

/// What one process knows.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) enum Fact {
    /// A user types for so many milliseconds, or not any more.
    Typing {
        room: RoomNid,
        user: UserNid,
        left: Option<u64>,
    },
    /// The presence of a user.
    Presence(PresenceFact),
}

/// What is known of a user's presence; durations in milliseconds.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct PresenceFact {
    pub user: UserNid,
    pub chosen: String,
    pub status: Option<String>,
    pub chosen_ago: i64,
    pub active_ago: i64,
    pub seen_ago: i64,
    /// For users of other servers: whether the user is currently active, as that server says. Older processes leave it out.
    #[serde(default)]
    pub abroad: Option<bool>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Message {
    version: u8,
    from: u64,
    kind: Kind,
    facts: Vec<Fact>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
enum Kind {
    /// It tells facts.
    Telling,
    /// It asks the others for what they know.
    Asking,
}

/// One process's voice among the others.
#[derive(Clone, Debug)]
pub(super) struct Voice {
    exchange: Exchange,
    /// Which process this is.
    process: u64,
}

impl Voice {
    pub(super) fn new(exchange: Exchange) -> Self {
        Self {
            exchange,
            process: rand::random(),
        }
    }

    /// Tells facts, whose numbers are to be after `counter`; says whether they are on their way.
    pub(super) fn tell(&self, facts: Vec<Fact>, counter: u64) -> bool {
        self.send(Kind::Telling, facts, counter)
    }

    fn send(&self, kind: Kind, facts: Vec<Fact>, counter: u64) -> bool {
        let numbers = facts.len().max(1);
        let message = Message {
            version: VERSION,
            from: self.process,
            kind,
            facts,
        };
        let body = serde_json::to_vec(&message).expect("facts are numbers and text");
        self.exchange.send(Outgoing {
            body,
            least: counter + 1,
            numbers,
        })
    }
}

/// Takes in what other processes tell.
#[derive(Debug)]
pub struct Sharing {
    ephemeral: Ephemeral,
    typing: Typing,
    presence: Presence,
    heard: mpsc::Receiver<Heard>,
}

impl Sharing {
    /// Brings what is `heard` to `typing` and `presence`, which tell their own changes through `ephemeral`.
    #[must_use]
    pub fn new(
        ephemeral: Ephemeral,
        typing: Typing,
        presence: Presence,
        heard: mpsc::Receiver<Heard>,
    ) -> Self {
        Self {
            ephemeral,
            typing,
            presence,
            heard,
        }
    }

    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut reminder = tokio::time::interval(REMINDER);
        reminder.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = reminder.tick() => self.presence.remind(),
                heard = self.heard.recv() => match heard {
                    Some(heard) => self.take_in(heard),
                    None => return,
                },
            }
        }
    }

    fn take_in(&self, heard: Heard) {
        let Some(voice) = self.ephemeral.voice() else {
            return;
        };
        match heard {
            Heard::Connected => {
                if voice.send(Kind::Asking, Vec::new(), self.ephemeral.counter()) {
                    self.tell_all(voice);
                }
            }
            Heard::Message { number, body } => {
                let Some(message) = read(&body) else { return };
                self.ephemeral.reach(number.saturating_sub(1));
                self.learn(message.facts);
                if message.kind == Kind::Asking && message.from != voice.process {
                    self.tell_all(voice);
                }
            }
            Heard::Unsent(body) => {
                if let Some(message) = read(&body) {
                    self.learn(message.facts);
                }
            }
        }
    }

    fn learn(&self, facts: Vec<Fact>) {
        for fact in facts {
            match fact {
                Fact::Typing { room, user, left } => {
                    let left = left.map(Duration::from_millis);
                    self.typing.learn(user, room, left);
                }
                Fact::Presence(fact) => self.presence.learn(&fact),
            }
        }
    }

    /// Tells everything that this process knows.
    fn tell_all(&self, voice: &Voice) {
        let mut facts = self.typing.facts();
        facts.extend(self.presence.facts());
        let counter = self.ephemeral.counter();
        for chunk in facts.chunks(CHUNK) {
            if !voice.tell(chunk.to_vec(), counter) {
                return;
            }
        }
    }
}

fn read(body: &[u8]) -> Option<Message> {
    let message: Message = serde_json::from_slice(body).ok()?;
    (message.version == VERSION).then_some(message)
}
