//! How much of other servers' answers is in memory at once.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::client::{Bounds, RequestError};

/// How many KiB all answers together may have that are being read: those that are small by their bound, such as keys, and
/// the others. Each has a bound of its own as well; these are for servers that make many answers be asked for at once.
const SMALL: usize = 64 * 1024;
const LARGE: usize = 320 * 1024;

/// The space for answers. The small ones have their own, so that the large ones do not keep us from finding keys.
#[derive(Clone, Debug)]
pub(crate) struct Intake {
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

/// The space that an answer takes up, until this is dropped.
#[derive(Debug)]
pub(crate) struct Space {
    all: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
    bytes: usize,
}

impl Intake {
    pub(crate) fn new() -> Self {
        Self {
            small: Arc::new(Semaphore::new(SMALL)),
            large: Arc::new(Semaphore::new(LARGE)),
        }
    }

    /// Space for an answer of which nothing was read, and which may have so many bytes.
    pub(crate) fn space(&self, size: usize) -> Space {
        let all = match size <= Bounds::SMALL.size {
            true => &self.small,
            false => &self.large,
        };
        Space {
            all: Arc::clone(all),
            held: None,
            bytes: 0,
        }
    }

    /// Takes a body in, as long as it is no larger than `size`, with the space that it takes up.
    pub(crate) async fn collect(
        &self,
        body: Incoming,
        size: usize,
    ) -> Result<(Bytes, Space), RequestError> {
        let mut space = self.space(size);
        let mut body = Limited::new(body, size);
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(piece) = frame.map_err(|error| broken(&*error))?.into_data() else {
                continue;
            };
            space.extend(piece.len())?;
            bytes.extend_from_slice(&piece);
        }
        Ok((bytes.freeze(), space))
    }
}

impl Space {
    /// Takes up so many bytes more.
    pub(crate) fn extend(&mut self, bytes: usize) -> Result<(), RequestError> {
        let before = self.bytes.div_ceil(1024);
        self.bytes += bytes;
        let more = self.bytes.div_ceil(1024) - before;
        if more == 0 {
            return Ok(());
        }
        let more = u32::try_from(more).map_err(|_| RequestError::TooLarge)?;
        let permit = Arc::clone(&self.all).try_acquire_many_owned(more);
        let permit = permit.map_err(|_| RequestError::TooLarge)?;
        match &mut self.held {
            Some(held) => held.merge(permit),
            None => self.held = Some(permit),
        }
        Ok(())
    }
}

/// Why a body ends early.
pub(crate) fn broken(error: &(dyn std::error::Error + Send + Sync + 'static)) -> RequestError {
    if error.is::<LengthLimitError>() {
        RequestError::TooLarge
    } else {
        RequestError::Unreachable(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_answers_share_the_space() {
        let intake = Intake::new();
        let space = || intake.space(Bounds::PAGE.size);
        let (mut one, mut other) = (space(), space());

        one.extend(LARGE * 1024 - 1_000).unwrap();
        assert!(other.extend(2_000).is_err());
        drop(one);

        assert!(other.extend(2_000).is_ok());
    }

    #[test]
    fn large_answers_leave_the_small_ones_their_space() {
        let intake = Intake::new();
        let mut large = intake.space(Bounds::ROOM.size);
        large.extend(LARGE * 1024).unwrap();

        let mut small = intake.space(Bounds::SMALL.size);

        assert!(small.extend(SMALL * 1024).is_ok());
        assert!(intake.space(Bounds::SMALL.size).extend(1).is_err());
    }

    #[test]
    fn small_pieces_take_up_no_more_than_they_have() {
        let mut space = Intake::new().space(Bounds::SMALL.size);

        for _ in 0..SMALL * 1024 / 512 {
            space.extend(1).unwrap();
        }
    }
}
