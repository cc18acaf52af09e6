//! Sending to one server.

use std::time::Duration;

use hearth_core::{DestinationNid, EventNid, RoomNid};
use hearth_store::{destination, outbox};
use ruma::{OwnedServerName, ServerName};

use super::{Outbound, fanout::WAITING, registry::Ephemera, transaction::Transaction};
use crate::client::{Bounds, RequestError};

/// How many events, and short-lived messages, a transaction has at the most.
const MOST_EVENTS: usize = 50;
const MOST_EDUS: usize = 100;

/// Of how many rooms events are looked at: one of each fills a transaction.
const MOST_ROOMS: i64 = 50;

/// How many of these are messages to devices, so that others have a chance.
const MOST_MESSAGES: i64 = 50;

/// After how many bytes of such messages no more are sent at once.
const MOST_BYTES: i64 = 1024 * 1024;

/// When a server that failed is tried again: twice as late each time.
const SHORTEST_DELAY: Duration = Duration::from_secs(5);
const LONGEST_DELAY: Duration = Duration::from_hours(24);

/// How long to rest when the database is away.
const TROUBLE: Duration = Duration::from_secs(5);

/// How a worker ends.
enum End {
    /// Everything was sent.
    Done,
    /// The server does not take it now.
    Failed,
    /// Another process sends to other servers now.
    NotOurs,
}

/// What goes into one transaction.
#[derive(Default)]
struct Load {
    rooms: Vec<RoomNid>,
    events: Vec<EventNid>,
    messages: Vec<i64>,
    ephemera: Ephemera,
    transaction: Transaction,
}

/// How much goes into one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    events: usize,
    messages: i64,
    edus: usize,
}

impl Size {
    const LARGEST: Self = Self {
        events: MOST_EVENTS,
        messages: MOST_MESSAGES,
        edus: MOST_EDUS,
    };
    const SMALLEST: Self = Self {
        events: 1,
        messages: 1,
        edus: 1,
    };

    /// For a server that takes less than what it should.
    fn halved(self) -> Self {
        Self {
            events: (self.events / 2).max(1),
            messages: (self.messages / 2).max(1),
            edus: (self.edus / 2).max(1),
        }
    }
}

impl Outbound {
    /// Sends what waits for a server, until there is nothing more or it fails.
    pub(super) async fn work(self, nid: DestinationNid, server: OwnedServerName) {
        let stop = self.0.parts.stop.clone();
        loop {
            self.0.registry.begin(nid);
            let outcome = tokio::select! {
                () = stop.cancelled() => return,
                outcome = self.send_all(nid, &server) => outcome,
            };
            match outcome {
                Ok(End::Done) => {
                    if !self.0.registry.rest(nid) {
                        return;
                    }
                }
                Ok(End::Failed | End::NotOurs) => break,
                Err(error) => {
                    tracing::warn!(
                        %server,
                        error = &error as &dyn std::error::Error,
                        "what waits for a server could not be read"
                    );
                    // Only this worker knows that something waits.
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(TROUBLE) => {}
                    }
                }
            }
        }
        self.0.registry.end(nid);
        self.0.retry.notify_one();
    }

    async fn send_all(&self, nid: DestinationNid, server: &ServerName) -> sqlx::Result<End> {
        let reading = self.database_turn(server).await;
        let mut conn = self.0.parts.pool.acquire().await?;
        let stored = destination::find(&mut conn, nid).await?;
        drop(conn);
        drop(reading);
        let failures = stored.as_ref().map_or(0, |stored| stored.failures);
        let retry_ts = stored.map_or(0, |stored| stored.retry_ts);
        if failures > 0 && retry_ts > self.0.parts.clock.millis() {
            self.0.failing.insert(nid, retry_ts);
            return Ok(End::Failed);
        }
        let turn = if failures > 0 {
            self.0.failing_at_once.acquire().await
        } else {
            self.0.healthy_at_once.acquire().await
        };
        let _turn = turn.expect("never closed");
        let mut failures = failures;
        let mut size = Size::LARGEST;
        while self.0.lead.is_ours() {
            let mut load = self.load(nid, server, size).await?;
            if load.transaction.is_empty() {
                return Ok(End::Done);
            }
            match self.deliver(server, &load.transaction).await {
                Ok(()) => {}
                Err(error) if is_too_large(&error) && size != Size::SMALLEST => {
                    size = size.halved();
                    self.0.registry.give_back(nid, load.ephemera);
                    continue;
                }
                Err(error) if is_final(&error) => {
                    tracing::warn!(%server, "a transaction was refused: {error}");
                    if is_too_large(&error) && !load.messages.is_empty() {
                        // The message is what is too large: no event is.
                        load.rooms.clear();
                        load.events.clear();
                    }
                }
                Err(error) => {
                    self.fail(nid, failures, server, &error).await?;
                    return Ok(End::Failed);
                }
            }
            self.strike_out((nid, server), &load, failures).await?;
            failures = 0;
        }
        Ok(End::NotOurs)
    }

    /// Puts together what is sent next: events first, then messages to devices, then what is short-lived.
    async fn load(
        &self,
        nid: DestinationNid,
        server: &ServerName,
        size: Size,
    ) -> sqlx::Result<Load> {
        let reading = self.database_turn(server).await;
        let mut conn = self.0.parts.pool.acquire().await?;
        let waiting = outbox::list(&mut conn, nid, MOST_ROOMS).await?;
        let messages = outbox::list_messages(&mut conn, nid, size.messages, MOST_BYTES).await?;
        drop(conn);
        drop(reading);
        let mut load = Load::default();
        for room in waiting {
            let space = size.events - load.events.len();
            if space == 0 {
                break;
            }
            load.rooms.push(room.room);
            load.events.extend(room.events.into_iter().take(space));
        }
        let stored = self.0.parts.rooms.events().map(load.events.clone()).await?;
        for event in load.events.iter().filter_map(|event| stored.get(event)) {
            load.transaction.add_event(&event.pdu);
        }
        for message in messages {
            load.messages.push(message.nid);
            load.transaction
                .add_message(&message.edu, message.created_ts);
        }
        let space = size.edus.saturating_sub(load.messages.len());
        load.ephemera = self.0.registry.take(nid, space);
        for edu in load.ephemera.values() {
            load.transaction.add_edu(edu);
        }
        Ok(load)
    }

    /// Sends a transaction.
    async fn deliver(
        &self,
        server: &ServerName,
        transaction: &Transaction,
    ) -> Result<(), RequestError> {
        let now = self.0.parts.clock.now();
        let request = transaction.request(&self.0.parts.identity.server_name, now);
        let sent = self
            .0
            .parts
            .client
            .send(server, request, Bounds::TRANSACTION);
        match sent.await {
            Ok(response) => {
                for (event_id, outcome) in &response.pdus {
                    if let Err(error) = outcome {
                        tracing::debug!(%server, %event_id, "an event was not taken: {error}");
                    }
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn strike_out(
        &self,
        (nid, server): (DestinationNid, &ServerName),
        load: &Load,
        failures: i32,
    ) -> sqlx::Result<()> {
        let _writing = self.database_turn(server).await;
        let mut tx = self.0.parts.pool.begin().await?;
        if !load.events.is_empty() {
            outbox::update_delivered(&mut tx, nid, &load.rooms, &load.events).await?;
            outbox::delete_empty(&mut tx, nid, &load.rooms).await?;
        }
        if !load.messages.is_empty() {
            outbox::delete_messages(&mut tx, &load.messages).await?;
        }
        if failures > 0 {
            destination::update_reached(&mut tx, nid).await?;
        }
        tx.commit().await?;
        self.0.failing.invalidate(&nid);
        Ok(())
    }

    async fn fail(
        &self,
        nid: DestinationNid,
        failures: i32,
        server: &ServerName,
        error: &RequestError,
    ) -> sqlx::Result<()> {
        tracing::info!(%server, failures = failures + 1, "sending failed: {error}");
        let now = self.0.parts.clock.millis();
        let retry_ts = now + delay(failures);
        self.0.failing.insert(nid, retry_ts);
        let _writing = self.database_turn(server).await;
        let mut tx = self.0.parts.pool.begin().await?;
        destination::update_failed(&mut tx, nid, now, retry_ts).await?;
        outbox::update_shortened(&mut tx, nid, WAITING.failing).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// Whether the server wants less at once.
fn is_too_large(error: &RequestError) -> bool {
    matches!(error, RequestError::Refused { status, .. } if status.as_u16() == 413)
}

/// Whether the server will say the same next time: what it does not like is as good as sent.
fn is_final(error: &RequestError) -> bool {
    match error {
        RequestError::Refused { status, .. } => {
            status.is_client_error() && ![401, 404, 408, 429].contains(&status.as_u16())
        }
        RequestError::Ourselves | RequestError::BadRequest(_) => true,
        RequestError::Unreachable(_)
        | RequestError::TooLong
        | RequestError::TooLarge
        | RequestError::Malformed(_) => false,
    }
}

/// How long a server is left alone that failed `failures` times before, in milliseconds, give or take a fifth.
fn delay(failures: i32) -> i64 {
    let doubled = SHORTEST_DELAY.saturating_mul(1 << failures.clamp(0, 20));
    let delay = doubled
        .min(LONGEST_DELAY)
        .mul_f64(rand::random_range(0.8..1.2));
    i64::try_from(delay.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn a_server_is_left_alone_twice_as_long_each_time() {
        assert!((4_000..=6_000).contains(&delay(0)));
        assert!((8_000..=12_000).contains(&delay(1)));
        assert!((16_000..=24_000).contains(&delay(2)));
        let day = 24 * 60 * 60 * 1_000;
        assert!((day / 5 * 4..=day / 5 * 6).contains(&delay(1_000)));
    }

    #[test]
    fn only_what_may_change_is_tried_again() {
        let refused = |status| RequestError::Refused {
            status: StatusCode::from_u16(status).unwrap(),
            kind: None,
            message: String::new(),
        };

        assert!(is_final(&refused(400)));
        assert!(is_final(&refused(403)));
        assert!(!is_final(&refused(429)));
        assert!(!is_final(&refused(502)));
        assert!(!is_final(&RequestError::TooLong));
    }

    #[test]
    fn a_server_that_takes_little_is_sent_less_and_less() {
        let mut size = Size::LARGEST;
        for _ in 0..7 {
            size = size.halved();
        }

        assert_eq!(size, Size::SMALLEST);
    }
}
