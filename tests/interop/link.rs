//! The way to a server, which can be cut.

use std::net::Ipv4Addr;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::task::TaskTracker;

/// Carries connections from a port that others know to the one that a server listens on.
///
/// It stays where it is while the server is stopped, so that nobody else takes its port.
pub(crate) struct Link {
    /// The port that others know.
    pub(crate) port: u16,
    whole: watch::Sender<bool>,
}

impl Link {
    /// Makes a way to `inner`, a port of this machine.
    pub(crate) async fn to(inner: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (whole, watch) = watch::channel(true);
        let tasks = TaskTracker::new();
        tasks.spawn(accept(listener, inner, watch, tasks.clone()));
        Self { port, whole }
    }

    /// Ends all connections and lets no new ones through.
    pub(crate) fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// Lets connections through again.
    pub(crate) fn mend(&self) {
        self.whole.send_replace(true);
    }
}

async fn accept(
    listener: TcpListener,
    inner: u16,
    whole: watch::Receiver<bool>,
    tasks: TaskTracker,
) {
    while let Ok((outside, _)) = listener.accept().await {
        if *whole.borrow() {
            tasks.spawn(carry(outside, inner, whole.clone()));
        }
    }
}

/// Carries one connection, until one side ends it or the way is cut.
async fn carry(mut outside: TcpStream, inner: u16, mut whole: watch::Receiver<bool>) {
    let Ok(mut inside) = TcpStream::connect((Ipv4Addr::LOCALHOST, inner)).await else {
        return;
    };
    tokio::select! {
        // Who sits at the ends notices when a connection breaks.
        _ = copy_bidirectional(&mut outside, &mut inside) => {}
        _ = whole.wait_for(|whole| !whole) => {}
    }
}
