//! What processes tell each other through Redis in one order, and what nobody misses who was not there.
//!
//! Redis numbers the messages as it hands them out, so that all processes hear them in the same order and under the same
//! numbers. The numbers are milliseconds of Redis's clock, or greater, so that they rise whatever is restarted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt as _;
use hearth_core::config;
use hearth_store::log;
use redis::{AsyncConnectionConfig, Client, Script, aio::MultiplexedConnection};
use sqlx::PgPool;
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::error::StartError;

/// How many messages wait to be sent, and to be heard.
const BACKLOG: usize = 4_096;

/// How long Redis may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long to wait before Redis is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Numbers a message and hands it out. `ARGV`: the message, the least number, how many numbers it takes.
const SEND: &str = r"
    local time = redis.call('TIME')
    local number = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
    local last = tonumber(redis.call('GET', KEYS[1]) or '0')
    number = math.max(number, last + 1, tonumber(ARGV[2]))
    redis.call('SET', KEYS[1], string.format('%.0f', number + tonumber(ARGV[3]) - 1), 'PX', 86400000)
    redis.call('PUBLISH', KEYS[2], string.format('%.0f', number) .. ' ' .. ARGV[1])
";

/// A message to the other processes, and to this one.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// What it says.
    pub body: Vec<u8>,
    /// Its number is at least this.
    pub least: u64,
    /// How many numbers it takes.
    pub numbers: usize,
}

/// What comes from Redis.
#[derive(Clone, Debug)]
pub enum Heard {
    /// The connection begins; what was said before was missed.
    Connected,
    /// A message of some process, this one included.
    Message {
        /// Its first number.
        number: u64,
        /// What it says.
        body: Vec<u8>,
    },
    /// A message of this process that nobody heard.
    Unsent(Vec<u8>),
}

/// Sends messages.
#[derive(Clone, Debug)]
pub struct Exchange {
    outgoing: mpsc::Sender<Outgoing>,
    is_up: Arc<AtomicBool>,
    name: String,
}

struct Link {
    client: Client,
    channel: String,
    number: String,
    is_up: Arc<AtomicBool>,
    heard: mpsc::Sender<Heard>,
}

impl Exchange {
    /// Prepares the way to Redis for a topic; connects to it later, and again and again until `stop`.
    ///
    /// # Errors
    ///
    /// When the address is malformed, or the log has no name.
    pub async fn open(
        pool: &PgPool,
        config: &config::Redis,
        topic: &str,
        (tasks, stop): (&TaskTracker, &CancellationToken),
    ) -> Result<(Self, mpsc::Receiver<Heard>), StartError> {
        let client = Client::open(config.url.expose()).map_err(StartError::Redis)?;
        let mut conn = pool.acquire().await?;
        let name = log::find_name(&mut conn).await?;
        drop(conn);
        let (outgoing, messages) = mpsc::channel(BACKLOG);
        let (heard, hearing) = mpsc::channel(BACKLOG);
        let is_up = Arc::new(AtomicBool::new(false));
        let link = || Link {
            client: client.clone(),
            channel: format!("hearth:{topic}:{name}"),
            number: format!("hearth:{topic}:{name}:number"),
            is_up: Arc::clone(&is_up),
            heard: heard.clone(),
        };
        let (sender, listener) = (link(), link());
        let stopped = stop.clone();
        tasks.spawn(async move { stopped.run_until_cancelled(sender.send(messages)).await });
        let stopped = stop.clone();
        tasks.spawn(async move { stopped.run_until_cancelled(listener.listen()).await });
        let exchange = Self {
            outgoing,
            is_up,
            name,
        };
        Ok((exchange, hearing))
    }

    /// The name of the log, which all processes of a server share.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sends a message; says whether it is on its way. It comes back to this process too, as a message or as unsent.
    #[must_use]
    pub fn send(&self, message: Outgoing) -> bool {
        self.is_up.load(Ordering::Acquire) && self.outgoing.try_send(message).is_ok()
    }
}

impl Link {
    async fn send(self, mut messages: mpsc::Receiver<Outgoing>) {
        let script = Script::new(SEND);
        let mut connection = None;
        while let Some(message) = messages.recv().await {
            if let Err(error) = self.send_one(&script, &mut connection, &message).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "Redis does not take messages"
                );
                connection = None;
                if self.heard.send(Heard::Unsent(message.body)).await.is_err() {
                    return;
                }
            }
        }
    }

    async fn send_one(
        &self,
        script: &Script,
        connection: &mut Option<MultiplexedConnection>,
        message: &Outgoing,
    ) -> redis::RedisResult<()> {
        let mut connected = if let Some(connection) = connection.take() {
            connection
        } else {
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(PATIENCE))
                .set_response_timeout(Some(PATIENCE));
            self.client
                .get_multiplexed_async_connection_with_config(&config)
                .await?
        };
        let () = script
            .key(&self.number)
            .key(&self.channel)
            .arg(&message.body)
            .arg(message.least)
            .arg(message.numbers)
            .invoke_async(&mut connected)
            .await?;
        *connection = Some(connected);
        Ok(())
    }

    async fn listen(self) {
        loop {
            if let Ok(mut messages) = self.subscribe().await {
                self.is_up.store(true, Ordering::Release);
                if self.heard.send(Heard::Connected).await.is_err() {
                    return;
                }
                while let Some(message) = messages.next().await {
                    let Some(heard) = read(message.get_payload_bytes()) else {
                        continue;
                    };
                    if self.heard.send(heard).await.is_err() {
                        return;
                    }
                }
                self.is_up.store(false, Ordering::Release);
            }
            sleep(PAUSE).await;
        }
    }

    async fn subscribe(&self) -> redis::RedisResult<redis::aio::PubSubStream> {
        let connected = timeout(PATIENCE, async {
            let mut subscription = self.client.get_async_pubsub().await?;
            subscription.subscribe(&self.channel).await?;
            Ok(subscription.into_on_message())
        });
        connected.await.unwrap_or_else(|_| {
            let error = std::io::Error::from(std::io::ErrorKind::TimedOut);
            Err(error.into())
        })
    }
}

/// Takes a message apart: its number, a blank, its body.
fn read(message: &[u8]) -> Option<Heard> {
    let blank = message.iter().position(|byte| *byte == b' ')?;
    let (number, body) = message.split_at(blank);
    Some(Heard::Message {
        number: std::str::from_utf8(number).ok()?.parse().ok()?,
        body: body.get(1..)?.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_a_number_and_a_body() {
        let Some(Heard::Message { number, body }) = read(b"17 a b") else {
            panic!("it is a message");
        };
        assert_eq!((number, body.as_slice()), (17, &b"a b"[..]));
        assert!(read(b"17").is_none());
        assert!(read(b"x y").is_none());
    }
}
