//! The sockets on which connections come in.

use std::{
    fs, io,
    net::IpAddr,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use hearth_core::config::Bind;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::either::Either;

/// A connection of either kind.
pub(super) type Stream = Either<TcpStream, UnixStream>;

/// An open socket. That of a unix address is removed with it.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, Removal),
}

/// Removes a file at the end.
#[derive(Debug)]
pub(super) struct Removal(PathBuf);

impl Drop for Removal {
    fn drop(&mut self) {
        // Somebody else may have removed it, which is as well.
        let _ = fs::remove_file(&self.0);
    }
}

impl Socket {
    /// Opens the socket, and takes the place of one that a dead process left behind.
    pub(super) async fn open(bind: &Bind) -> io::Result<Self> {
        match bind {
            Bind::Tcp(address) => Ok(Self::Tcp(TcpListener::bind(address).await?)),
            Bind::Unix(path) => {
                remove_stale(path).await?;
                let listener = UnixListener::bind(path)?;
                let removal = Removal(path.clone());
                // Whoever may enter the folder may connect, as with a port of this machine.
                fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
                Ok(Self::Unix(listener, removal))
            }
        }
    }

    /// Where it is, with the port that the system chose.
    pub(super) fn address(&self) -> io::Result<Bind> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Bind::Tcp),
            Self::Unix(_, Removal(path)) => Ok(Bind::Unix(path.clone())),
        }
    }

    /// The next connection, and the address of its other end.
    pub(super) async fn accept(&self) -> io::Result<(Stream, Option<IpAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Answers are written at once, so that there is nothing to wait for.
                stream.set_nodelay(true)?;
                Ok((Either::Left(stream), Some(peer.ip())))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok((Either::Right(stream), None))
            }
        }
    }
}

/// Removes the socket at `path` when nobody listens there.
async fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "there is a file that is no socket",
            ));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}
