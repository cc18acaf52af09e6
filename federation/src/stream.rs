//! Reading large answers piece by piece.

use std::{
    io::{self, BufReader, Read},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::{
    client::{Bounds, RequestError},
    intake::{Intake, Space, broken},
};

/// How many pieces may wait for the parser.
const PIECES: usize = 16;

/// How long the other server may pause.
const PAUSE: Duration = Duration::from_secs(30);

/// Parses a body while it comes in, on a thread of its own, so that there is never a second copy of it.
pub(crate) async fn parse<T: DeserializeOwned + Send + 'static>(
    body: Incoming,
    bounds: Bounds,
    (intake, tasks): (&Intake, &TaskTracker),
) -> Result<T, RequestError> {
    let (sender, receiver) = mpsc::channel(PIECES);
    let reader = BufReader::new(Pieces {
        receiver,
        piece: Bytes::new(),
    });
    let parsing = tasks.spawn_blocking(move || serde_json::from_reader(reader));
    let mut space = intake.space(bounds.size);
    let pumping = pump(Limited::new(body, bounds.size), &mut space, sender);
    // When it is given up, the parser finds the end of the body and ends too.
    match tokio::time::timeout(bounds.time, pumping).await {
        Ok(outcome) => outcome?,
        Err(_) => return Err(RequestError::TooLong),
    }
    match parsing.await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(RequestError::Malformed(error.to_string())),
        Err(error) => Err(RequestError::Malformed(error.to_string())),
    }
}

async fn pump(
    mut body: Limited<Incoming>,
    space: &mut Space,
    sender: mpsc::Sender<Bytes>,
) -> Result<(), RequestError> {
    loop {
        let frame = tokio::time::timeout(PAUSE, body.frame());
        let frame = match frame.await.map_err(|_| RequestError::TooLong)? {
            None => return Ok(()),
            Some(frame) => frame.map_err(|error| broken(&*error))?,
        };
        let Ok(piece) = frame.into_data() else {
            continue;
        };
        space.extend(piece.len())?;
        if sender.send(piece).await.is_err() {
            // The parser has seen enough: it tells what is wrong.
            return Ok(());
        }
    }
}

/// The pieces of a body, as a file.
struct Pieces {
    receiver: mpsc::Receiver<Bytes>,
    piece: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
