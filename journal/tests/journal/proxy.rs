//! A proxy before `PostgreSQL` that loses the answer to a COMMIT.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixStream},
    task::JoinSet,
};

/// What happens to COMMITs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// `PostgreSQL` gets it; its answer is lost.
    Answer,
    /// It is lost on the way.
    Commit,
}

/// A way to the database of `pool` with a fault.
pub(crate) struct Proxy {
    pub(crate) pool: PgPool,
    cuts: Arc<AtomicU32>,
    /// Ends with the test.
    _task: JoinSet<()>,
}

impl Proxy {
    /// Cuts nothing until it is told to.
    pub(crate) async fn start(pool: &PgPool, cut: Cut) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let cuts = Arc::new(AtomicU32::new(0));
        let upstream = Upstream::of(pool);
        let mut task = JoinSet::new();
        let remaining = Arc::clone(&cuts);
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (upstream, remaining) = (upstream.clone(), Arc::clone(&remaining));
                connections.spawn(async move {
                    match upstream {
                        Upstream::Tcp(host, port) => {
                            let server = TcpStream::connect((host, port)).await.unwrap();
                            pass(client, server, &remaining, cut).await;
                        }
                        Upstream::Unix(path) => {
                            let server = UnixStream::connect(path).await.unwrap();
                            pass(client, server, &remaining, cut).await;
                        }
                    }
                });
            }
        });
        let options = pool.connect_options().as_ref().clone();
        let options = options.host("127.0.0.1").port(address.port());
        let options = without_socket(&options);
        let pool = PgPoolOptions::new()
            .max_connections(5)
            .connect_with(options)
            .await
            .unwrap();
        Self {
            pool,
            cuts,
            _task: task,
        }
    }

    /// Cuts the next `count` COMMITs.
    pub(crate) fn cut(&self, count: u32) {
        self.cuts.store(count, Ordering::SeqCst);
    }

    /// How many cuts are still to come.
    pub(crate) fn remaining(&self) -> u32 {
        self.cuts.load(Ordering::SeqCst)
    }
}

/// The same options, on TCP.
fn without_socket(options: &sqlx::postgres::PgConnectOptions) -> sqlx::postgres::PgConnectOptions {
    let mut tcp = sqlx::postgres::PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(options.get_port())
        .username(options.get_username())
        .ssl_mode(sqlx::postgres::PgSslMode::Disable);
    if let Some(database) = options.get_database() {
        tcp = tcp.database(database);
    }
    tcp
}

#[derive(Clone)]
enum Upstream {
    Tcp(String, u16),
    Unix(std::path::PathBuf),
}

impl Upstream {
    fn of(pool: &PgPool) -> Self {
        let options = pool.connect_options();
        let port = options.get_port();
        match options.get_socket() {
            Some(folder) => Self::Unix(folder.join(format!(".s.PGSQL.{port}"))),
            None => Self::Tcp(options.get_host().to_owned(), port),
        }
    }
}

/// Passes bytes on until a COMMIT is to be cut.
async fn pass<S>(client: TcpStream, server: S, cuts: &AtomicU32, cut: Cut)
where
    S: AsyncRead + AsyncWrite,
{
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let (mut sent, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            count = from_client.read(&mut sent) => {
                let Ok(count @ 1..) = count else { return };
                let is_commit = sent[..count].windows(7).any(|word| word == b"COMMIT\0");
                let take = |left: u32| left.checked_sub(1);
                let is_cut = is_commit
                    && cuts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok();
                if is_cut && cut == Cut::Commit {
                    return;
                }
                to_server.write_all(&sent[..count]).await.unwrap();
                if is_cut {
                    // It is done: PostgreSQL answers. Nobody hears it.
                    let _ = from_server.read(&mut answered).await;
                    return;
                }
            }
            count = from_server.read(&mut answered) => {
                let Ok(count @ 1..) = count else { return };
                if to_client.write_all(&answered[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
}
