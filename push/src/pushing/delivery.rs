//! Telling what waits for one pusher.

use std::time::Duration;

use hearth_core::{Position, PusherNid};
use hearth_store::{
    push_queue::{self, Waiting},
    pusher,
};
use ruma::UserId;
use serde_json::{Map, Value};

use super::{
    Pushing,
    compose::{NOTHING_COUNTED, Story},
    counts::Unseen,
    fanout::WAITING,
};
use crate::{
    evaluator::Viewer,
    gateway::{Answer, Body, GatewayError, Notification, Told},
};

/// What waited for longer is not told any more, in milliseconds: a day.
const OLDEST: i64 = 24 * 60 * 60 * 1_000;

/// When a pusher that failed is tried again: twice as late each time.
const SHORTEST_DELAY: Duration = Duration::from_secs(2);
const LONGEST_DELAY: Duration = Duration::from_hours(1);

/// How long to rest when the database is away.
const TROUBLE: Duration = Duration::from_secs(5);

/// How a worker ends.
enum End {
    /// Everything was told.
    Done,
    /// The gateway does not take it now.
    Failed,
}

/// What comes next for a pusher.
struct Next {
    /// What is struck out once it is told, or at once when nothing is.
    events: Vec<i64>,
    /// The event that is told, if it is one.
    story: Option<Story>,
    /// What the gateway is told of counts; `None` when nothing is told at all.
    unseen: Option<Unseen>,
    /// Up to where it was counted.
    counted_to: Position,
}

/// What a gateway made of a notification.
enum Outcome {
    Taken,
    /// The pushkey is good for nothing any more.
    Rejected,
}

impl Pushing {
    /// Tells what waits for a pusher, until there is nothing more or it fails.
    pub(super) async fn work(self, nid: PusherNid) {
        let stop = self.0.parts.stop.clone();
        loop {
            self.0.registry.begin(nid);
            let outcome = tokio::select! {
                () = stop.cancelled() => return,
                outcome = self.tell_all(nid) => outcome,
            };
            match outcome {
                Ok(End::Done) => {
                    if !self.0.registry.rest(nid) {
                        return;
                    }
                }
                Ok(End::Failed) => break,
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "what waits for a pusher could not be read"
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

    async fn tell_all(&self, nid: PusherNid) -> sqlx::Result<End> {
        while self.0.lead.is_ours() {
            let turn = self.database_turn().await;
            let mut conn = self.0.parts.pool.acquire().await?;
            let waiting = push_queue::find(&mut conn, nid).await?;
            drop((conn, turn));
            let Some(waiting) = waiting else { break };
            if waiting.failures > 0 && waiting.retry_ts > self.0.parts.clock.millis() {
                self.0.failing.insert(nid, waiting.retry_ts);
                return Ok(End::Failed);
            }
            let next = self.next(&waiting).await?;
            let told = match &next.unseen {
                Some(unseen) => match self.deliver(&waiting, &next, unseen).await {
                    Ok(Outcome::Taken) => true,
                    Ok(Outcome::Rejected) => {
                        let mut conn = self.0.parts.pool.acquire().await?;
                        pusher::delete_rejected(&mut conn, nid, waiting.set_ts).await?;
                        tracing::info!(user_id = %waiting.user_id, "a pusher was rejected by its gateway");
                        return Ok(End::Done);
                    }
                    Err(error) => {
                        self.fail(&waiting, &error).await?;
                        return Ok(End::Failed);
                    }
                },
                None => false,
            };
            if !told && next.events.is_empty() && next.counted_to == NOTHING_COUNTED {
                break;
            }
            self.strike_out(&waiting, &next).await?;
        }
        Ok(End::Done)
    }

    /// The oldest event that is still to be told, or else the counts, if they changed.
    async fn next(&self, waiting: &Waiting) -> sqlx::Result<Next> {
        let viewer = Viewer {
            user: waiting.user,
            user_id: UserId::parse(waiting.user_id.as_str())
                .map_err(|error| sqlx::Error::Decode(error.into()))?,
        };
        let mut next = Next {
            events: Vec::new(),
            story: None,
            unseen: None,
            counted_to: NOTHING_COUNTED,
        };
        let oldest = self.0.parts.clock.millis() - OLDEST;
        for (event, queued) in waiting.events.iter().zip(&waiting.queued) {
            next.events.push(*event);
            if *queued >= oldest {
                next.story = self.story(&viewer, waiting, *event).await?;
            }
            if next.story.is_some() {
                break;
            }
        }
        if next.story.is_none() && waiting.read_position == Position(0) {
            return Ok(next);
        }
        let mut unseen = self.unseen(&viewer).await?;
        if next.story.as_ref().is_some_and(Story::is_call) {
            unseen.missed_calls = unseen.missed_calls.saturating_sub(1);
        }
        next.counted_to = unseen.counted_to;
        let known = (waiting.unread, waiting.missed_calls);
        if next.story.is_some() || known != stored(&unseen) {
            next.unseen = Some(unseen);
        }
        Ok(next)
    }

    async fn deliver(
        &self,
        waiting: &Waiting,
        next: &Next,
        unseen: &Unseen,
    ) -> Result<Outcome, GatewayError> {
        let clock = &self.0.parts.clock;
        let mut data: Map<String, Value> = serde_json::from_str(&waiting.data).unwrap_or_default();
        let url = data.remove("url");
        let url = url.as_ref().and_then(Value::as_str).unwrap_or_default();
        let gateway = self.0.known.at(url);
        let turn = self.0.known.turn(&gateway).await;
        if gateway.is_quiet(clock.millis()) {
            let reason = "it could not be reached a moment ago".to_owned();
            return Err(GatewayError::Unreachable(reason));
        }
        let body = body(waiting, next, unseen, data);
        let answer = self.0.parts.gateways.notify(url, body).await;
        drop(turn);
        match &answer {
            Err(GatewayError::Unreachable(_)) => gateway.failed(clock.millis()),
            Ok(_) | Err(GatewayError::Refused(_)) => gateway.answered(),
        }
        let answer: Answer = serde_json::from_slice(&answer?)
            .map_err(|error| GatewayError::Refused(format!("the answer is malformed: {error}")))?;
        if answer.rejected.contains(&waiting.pushkey) {
            count("rejected");
            return Ok(Outcome::Rejected);
        }
        count("taken");
        if let Some(queued) = next.story.as_ref().and(told_since(waiting, next)) {
            let delay = u32::try_from(clock.millis() - queued).unwrap_or(u32::MAX);
            metrics::histogram!("hearth_push_delay_seconds").record(f64::from(delay) / 1_000.0);
        }
        Ok(Outcome::Taken)
    }

    async fn strike_out(&self, waiting: &Waiting, next: &Next) -> sqlx::Result<()> {
        let _turn = self.database_turn().await;
        let nid = waiting.nid;
        hearth_store::retry("strike out pushes", || async {
            let mut tx = self.0.parts.pool.begin().await?;
            if let Some(unseen) = &next.unseen {
                let (unread, missed_calls) = stored(unseen);
                pusher::update_told(&mut tx, nid, unread, missed_calls).await?;
            }
            push_queue::update_told(&mut tx, nid, &next.events, next.counted_to).await?;
            push_queue::delete_empty(&mut tx, nid).await?;
            tx.commit().await
        })
        .await?;
        self.0.failing.invalidate(&nid);
        Ok(())
    }

    async fn fail(&self, waiting: &Waiting, error: &GatewayError) -> sqlx::Result<()> {
        count("failed");
        let failures = waiting.failures;
        tracing::info!(user_id = %waiting.user_id, failures = failures + 1, "pushing failed: {error}");
        let retry_ts = self.0.parts.clock.millis() + delay(failures);
        self.0.failing.insert(waiting.nid, retry_ts);
        let _turn = self.database_turn().await;
        hearth_store::retry("note a failed push", || async {
            let mut tx = self.0.parts.pool.begin().await?;
            pusher::update_failed(&mut tx, waiting.nid, retry_ts).await?;
            push_queue::update_shortened(&mut tx, waiting.nid, WAITING.failing).await?;
            tx.commit().await
        })
        .await
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("hearth_pushes_total", "outcome" => outcome).increment(1);
}

/// Counts as they are stored.
fn stored(unseen: &Unseen) -> (i64, i64) {
    let stored = |count| i64::try_from(count).unwrap_or(i64::MAX);
    (stored(unseen.unread), stored(unseen.missed_calls))
}

/// When the event came that is told.
fn told_since(waiting: &Waiting, next: &Next) -> Option<i64> {
    let event = next.events.last()?;
    let mut queued = waiting.events.iter().zip(&waiting.queued);
    queued
        .find(|(queued, _)| *queued == event)
        .map(|(_, ts)| *ts)
}

fn body(waiting: &Waiting, next: &Next, unseen: &Unseen, data: Map<String, Value>) -> Vec<u8> {
    let ids_only = data.get("format").and_then(Value::as_str) == Some("event_id_only");
    let mut notification = match &next.story {
        Some(story) => story.notification(ids_only),
        None => Notification::default(),
    };
    let is_told = unseen.unread > 0 || next.story.is_none();
    notification.counts = Told {
        unread: is_told.then_some(unseen.unread),
        missed_calls: unseen.missed_calls,
    };
    let [device] = &mut notification.devices;
    device.app_id = &waiting.app_id;
    device.pushkey = &waiting.pushkey;
    device.pushkey_ts = waiting.set_ts / 1_000;
    device.data = data;
    serde_json::to_vec(&Body { notification }).expect("strings and numbers can be written")
}

/// How long a pusher is left alone that failed `failures` times before, in milliseconds, give or take a fifth.
fn delay(failures: i32) -> i64 {
    let doubled = SHORTEST_DELAY.saturating_mul(1 << failures.clamp(0, 20));
    let delay = doubled
        .min(LONGEST_DELAY)
        .mul_f64(rand::random_range(0.8..1.2));
    i64::try_from(delay.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pusher_is_left_alone_twice_as_long_each_time() {
        assert!((1_600..=2_400).contains(&delay(0)));
        assert!((3_200..=4_800).contains(&delay(1)));
        let hour = 60 * 60 * 1_000;
        assert!((hour / 5 * 4..=hour / 5 * 6).contains(&delay(1_000)));
    }
}
