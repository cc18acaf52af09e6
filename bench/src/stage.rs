//! Users and rooms, made through the client API before a scenario begins.

use std::{
    fmt::Write as _,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    sync::Arc,
    time::Duration,
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use sha1::Sha1;
use tokio::task::JoinSet;

use crate::{
    client::{Client, User},
    connection::{Ask, Connection, Target},
    error::BenchError,
    scan,
};

/// How many requests are made at a time while things are set up.
const WORKERS: usize = 20;

/// How long a registration may take.
const LIMIT: Duration = Duration::from_mins(1);

/// The server under test with the users made so far.
#[derive(Debug)]
pub(crate) struct Stage {
    target: Arc<Target>,
    shared_secret: Option<Arc<str>>,
    /// What the names of this run begin with, so that runs do not meet.
    prefix: String,
    users: Vec<Arc<User>>,
}

impl Stage {
    /// Prepares to use `target`; with a `shared_secret` users are made as an administrator does.
    pub(crate) fn new(target: Target, shared_secret: Option<&str>) -> Self {
        let random = RandomState::new().build_hasher().finish() & 0xffff_ffff;
        Self {
            target: Arc::new(target),
            shared_secret: shared_secret.map(Arc::from),
            prefix: format!("b{random:08x}"),
            users: Vec::new(),
        }
    }

    /// The first `count` users; those that do not exist yet are registered.
    pub(crate) async fn users(&mut self, count: usize) -> Result<Vec<Arc<User>>, BenchError> {
        let names: Vec<String> = (self.users.len()..count)
            .map(|n| format!("{}-{n}", self.prefix))
            .collect();
        let made = parallel(names, |name| {
            let (target, secret) = (Arc::clone(&self.target), self.shared_secret.clone());
            async move {
                let mut connection = Connection::new(target);
                match secret {
                    Some(secret) => register_by_secret(&mut connection, &name, &secret).await,
                    None => register(&mut connection, &name).await,
                }
            }
        })
        .await?;
        self.users.extend(made.into_iter().map(Arc::new));
        Ok(self.users[..count].to_vec())
    }

    /// A user of its own, whom no other scenario meets.
    pub(crate) async fn newcomer(&mut self) -> Result<Arc<User>, BenchError> {
        let before = self.users.len();
        self.users(before + 1).await?;
        self.prefix.push('x');
        Ok(self.users.remove(before))
    }

    /// A connection of its own for `user`.
    pub(crate) fn client(&self, user: &Arc<User>) -> Client {
        Client::new(Arc::clone(&self.target), Arc::clone(user))
    }

    /// Makes a room of each list of members; the first of them creates it.
    pub(crate) async fn rooms(
        &self,
        members: &[Vec<Arc<User>>],
    ) -> Result<Vec<String>, BenchError> {
        let creators = members.iter().filter_map(|members| members.first());
        let rooms = parallel(
            creators.map(|user| self.client(user)),
            |mut creator| async move { creator.create_room("Bench").await },
        )
        .await?;
        let joins = rooms.iter().zip(members).flat_map(|(room, members)| {
            members
                .iter()
                .skip(1)
                .map(|user| (room.clone(), self.client(user)))
        });
        parallel(joins, |(room, mut client)| async move {
            client.join(&room).await
        })
        .await?;
        Ok(rooms)
    }
}

/// Does `work` for each item, some at a time, and gives the results in the order of the items.
pub(crate) async fn parallel<I, T, F>(
    items: impl IntoIterator<Item = I>,
    work: impl Fn(I) -> F,
) -> Result<Vec<T>, BenchError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, BenchError>> + Send + 'static,
{
    let mut running = JoinSet::new();
    let mut done = Vec::new();
    for (n, item) in items.into_iter().enumerate() {
        if running.len() >= WORKERS {
            done.push(joined(running.join_next().await)?);
        }
        let future = work(item);
        running.spawn(async move { future.await.map(|result| (n, result)) });
    }
    while !running.is_empty() {
        done.push(joined(running.join_next().await)?);
    }
    done.sort_unstable_by_key(|(n, _)| *n);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

fn joined<T>(
    result: Option<Result<Result<T, BenchError>, tokio::task::JoinError>>,
) -> Result<T, BenchError> {
    result
        .expect("a task is running")
        .unwrap_or_else(|error| Err(BenchError::Usage(error.to_string())))
}

async fn register(connection: &mut Connection, name: &str) -> Result<User, BenchError> {
    let mut auth = json!({ "type": "m.login.dummy" });
    loop {
        let body = json!({ "username": name, "password": name, "auth": auth });
        let ask = register_ask(
            "/_matrix/client/v3/register",
            Method::POST,
            body.to_string(),
        );
        let (status, answer) = connection.ask_any(ask.clone()).await?;
        let session = scan::string(&answer, "session");
        if status == StatusCode::UNAUTHORIZED
            && auth.get("session").is_none()
            && let Some(session) = session
        {
            auth["session"] = Value::from(session);
            continue;
        }
        if !status.is_success() {
            let body = String::from_utf8_lossy(&answer[..answer.len().min(300)]).into_owned();
            return Err(BenchError::Refused {
                what: ask.path,
                status,
                body,
            });
        }
        return User::from_answer(&answer);
    }
}

async fn register_by_secret(
    connection: &mut Connection,
    name: &str,
    secret: &str,
) -> Result<User, BenchError> {
    const PATH: &str = "/_synapse/admin/v1/register";
    let answer = connection
        .ask(register_ask(PATH, Method::GET, String::new()))
        .await?;
    let nonce = scan::string(&answer, "nonce").ok_or(BenchError::Missing("nonce"))?;
    let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).expect("any length is a key");
    mac.update(format!("{nonce}\0{name}\0{name}\0notadmin").as_bytes());
    let mac = hex(&mac.finalize().into_bytes());
    let body = json!({
        "nonce": nonce, "username": name, "password": name, "admin": false, "mac": mac,
    });
    let answer = connection
        .ask(register_ask(PATH, Method::POST, body.to_string()))
        .await?;
    User::from_answer(&answer)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

fn register_ask(path: &str, method: Method, body: String) -> Ask<'static> {
    Ask {
        method,
        path: path.to_owned(),
        body,
        token: None,
        limit: LIMIT,
    }
}
