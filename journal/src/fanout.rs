//! Announcements to and from other processes through Redis. Nothing that goes through it must not be lost.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use hearth_core::config;
use hearth_store::log;
use redis::{AsyncConnectionConfig, AsyncTypedCommands as _, Client, aio::MultiplexedConnection};
use sqlx::PgPool;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{announcement::Announcement, error::StartError, journal::Journal, message};

/// How many announcements wait to be sent; more are not sent.
const BACKLOG: usize = 1_024;

/// How long Redis may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long to wait before Redis is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Tells other processes.
#[derive(Debug)]
pub(crate) struct Fanout(mpsc::Sender<(i64, Arc<Announcement>)>);

/// The work behind a [`Fanout`].
#[derive(Debug)]
pub(crate) struct Tasks {
    client: Client,
    channel: String,
    announcements: mpsc::Receiver<(i64, Arc<Announcement>)>,
}

impl Fanout {
    /// Prepares the way to Redis; connects to it later, and again and again.
    pub(crate) async fn open(
        pool: &PgPool,
        config: &config::Redis,
    ) -> Result<(Self, Tasks), StartError> {
        let client = Client::open(config.url.expose()).map_err(StartError::Redis)?;
        let mut conn = pool.acquire().await?;
        let name = log::find_name(&mut conn).await?;
        let (sender, announcements) = mpsc::channel(BACKLOG);
        let tasks = Tasks {
            client,
            channel: format!("hearth:log:{name}"),
            announcements,
        };
        Ok((Self(sender), tasks))
    }

    /// Tells other processes of a commit; when Redis is too slow, they find out by themselves.
    pub(crate) fn tell(&self, epoch: i64, announcement: Arc<Announcement>) {
        let _ = self.0.try_send((epoch, announcement));
    }
}

impl Tasks {
    /// Sends until `drained`, listens until `stop`.
    pub(crate) fn spawn(
        self,
        journal: &Journal,
        tasks: &TaskTracker,
        stop: &CancellationToken,
        drained: &CancellationToken,
    ) {
        let (client, channel) = (self.client.clone(), self.channel.clone());
        let publisher = Publisher {
            client: self.client,
            channel: self.channel,
            connection: None,
            away_until: None,
        };
        tasks.spawn(publisher.run(self.announcements, drained.clone()));
        let (journal, stop) = (journal.clone(), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = listen(&journal, &client, &channel) => {}
            }
        });
    }
}

struct Publisher {
    client: Client,
    channel: String,
    connection: Option<MultiplexedConnection>,
    /// Redis failed: nothing is sent until then.
    away_until: Option<Instant>,
}

impl Publisher {
    async fn run(
        mut self,
        mut announcements: mpsc::Receiver<(i64, Arc<Announcement>)>,
        drained: CancellationToken,
    ) {
        loop {
            let (epoch, announcement) = tokio::select! {
                biased;
                Some(next) = announcements.recv() => next,
                () = drained.cancelled() => return,
            };
            if self.away_until.is_some_and(|until| Instant::now() < until) {
                continue;
            }
            let message = message::encode(epoch, &announcement);
            match self.publish(&message).await {
                Ok(()) => self.away_until = None,
                Err(error) => {
                    if self.away_until.is_none() {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "Redis does not take announcements"
                        );
                    }
                    self.connection = None;
                    self.away_until = Some(Instant::now() + PAUSE);
                }
            }
        }
    }

    async fn publish(&mut self, message: &[u8]) -> redis::RedisResult<()> {
        let mut connection = if let Some(connection) = self.connection.take() {
            connection
        } else {
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(PATIENCE))
                .set_response_timeout(Some(PATIENCE));
            let client = &self.client;
            client
                .get_multiplexed_async_connection_with_config(&config)
                .await?
        };
        connection.publish(&self.channel, message).await?;
        self.connection = Some(connection);
        Ok(())
    }
}

/// Takes in what other processes tell, for ever.
async fn listen(journal: &Journal, client: &Client, channel: &str) {
    let mut is_away = false;
    loop {
        match subscribe(client, channel).await {
            Ok(mut messages) => {
                is_away = false;
                // What was told before is in the log.
                journal.0.head.look();
                while let Some(message) = messages.next().await {
                    take_in(journal, message.get_payload_bytes());
                }
                tracing::warn!("the connection to Redis is lost");
            }
            Err(error) if !is_away => {
                is_away = true;
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "Redis cannot be reached"
                );
            }
            Err(_) => {}
        }
        sleep(PAUSE).await;
    }
}

async fn subscribe(client: &Client, channel: &str) -> redis::RedisResult<redis::aio::PubSubStream> {
    let connected = timeout(PATIENCE, async {
        let mut subscription = client.get_async_pubsub().await?;
        subscription.subscribe(channel).await?;
        Ok(subscription.into_on_message())
    });
    connected.await.unwrap_or_else(|_| {
        let error = std::io::Error::from(std::io::ErrorKind::TimedOut);
        Err(error.into())
    })
}

fn take_in(journal: &Journal, message: &[u8]) {
    match message::decode(message) {
        Some((epoch, announcement)) if epoch == journal.epoch() => {
            journal.0.head.announce(Arc::new(announcement));
        }
        // Another epoch or version: the log tells.
        Some(_) | None => journal.0.head.look(),
    }
}
