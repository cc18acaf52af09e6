//! The tokens that clients hold: versioned, opaque to them, read only here.
//!
//! [`StreamToken`] says up to where a client has read its streams (`/sync`, `/notifications`), [`PageToken`] where in a
//! room's history a page ends (`/messages`, `/relations`, `prev_batch`). A room's `prev_batch` and a `/sync` token
//! are both accepted where the specification lets clients use either.

use std::{fmt, str::FromStr};

use crate::Position;

/// A token does not parse. Clients get `M_UNKNOWN_POS` or `M_INVALID_PARAM`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a token of this server")]
pub struct BadToken;

/// Up to where a client has read its streams: `s1_<epoch>_<position>_<to-device>_<incarnation>_<counter>`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamToken {
    /// The log's epoch; a token of another epoch gets a full resync.
    pub epoch: i64,
    /// Everything of the log up to here was sent.
    pub position: Position,
    /// To-device messages up to here were sent; behind `position` when a response was full.
    pub to_device: Position,
    /// Which life of the ephemeral store `ephemeral` counts in; another one means "send current typing and presence".
    pub incarnation: u64,
    /// Typing and presence up to here were sent.
    pub ephemeral: u64,
}

impl fmt::Display for StreamToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "s1_{}_{}_{}_{:x}_{}",
            self.epoch, self.position, self.to_device, self.incarnation, self.ephemeral
        )
    }
}

impl FromStr for StreamToken {
    type Err = BadToken;

    fn from_str(token: &str) -> Result<Self, BadToken> {
        let mut parts = token.strip_prefix("s1_").ok_or(BadToken)?.split('_');
        let mut next = || parts.next().ok_or(BadToken);
        let token = Self {
            epoch: number(next()?)?,
            position: Position(number(next()?)?),
            to_device: Position(number(next()?)?),
            incarnation: u64::from_str_radix(next()?, 16).map_err(|_| BadToken)?,
            ephemeral: number(next()?)?,
        };
        parts.next().is_none().then_some(token).ok_or(BadToken)
    }
}

/// A gap between two events of a room's history: `t1_<depth>_<stream order>` in topological order, `o1_<stream order>`
/// in stream order, `b1_…_<stream>` and `a1_…_<stream>` in both.
///
/// It stands just after the event of that depth and order. Pages are in topological order but often begin where a
/// `/sync` ended, which is a place in the stream; the later pages keep that place, so that an event which arrived late
/// but stands early is on exactly one side of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageToken {
    /// Just after this place in (depth, stream order).
    Topological {
        /// The event's depth.
        depth: i64,
        /// The event's stream order.
        order: i64,
    },
    /// Just after this place in the stream.
    Stream {
        /// The stream order.
        order: i64,
    },
    /// Like `Topological` for going backwards, with nothing that came after `stream`.
    Before {
        /// The event's depth.
        depth: i64,
        /// The event's stream order.
        order: i64,
        /// Where the first page began.
        stream: i64,
    },
    /// Like `Topological` for going forwards, with nothing that came up to `stream`.
    After {
        /// The event's depth.
        depth: i64,
        /// The event's stream order.
        order: i64,
        /// Where the first page began.
        stream: i64,
    },
}

impl fmt::Display for PageToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topological { depth, order } => write!(f, "t1_{depth}_{order}"),
            Self::Stream { order } => write!(f, "o1_{order}"),
            Self::Before {
                depth,
                order,
                stream,
            } => write!(f, "b1_{depth}_{order}_{stream}"),
            Self::After {
                depth,
                order,
                stream,
            } => write!(f, "a1_{depth}_{order}_{stream}"),
        }
    }
}

impl FromStr for PageToken {
    type Err = BadToken;

    fn from_str(token: &str) -> Result<Self, BadToken> {
        if let Some(rest) = token.strip_prefix("t1_") {
            let (depth, order) = rest.split_once('_').ok_or(BadToken)?;
            return Ok(Self::Topological {
                depth: number(depth)?,
                order: number(order)?,
            });
        }
        if let Some(order) = token.strip_prefix("o1_") {
            return Ok(Self::Stream {
                order: number(order)?,
            });
        }
        if let Some(rest) = token.strip_prefix("b1_") {
            let (depth, order, stream) = three(rest)?;
            return Ok(Self::Before {
                depth,
                order,
                stream,
            });
        }
        if let Some(rest) = token.strip_prefix("a1_") {
            let (depth, order, stream) = three(rest)?;
            return Ok(Self::After {
                depth,
                order,
                stream,
            });
        }
        let StreamToken { position, .. } = token.parse()?;
        Ok(Self::Stream { order: position.0 })
    }
}

fn three(text: &str) -> Result<(i64, i64, i64), BadToken> {
    let (depth, rest) = text.split_once('_').ok_or(BadToken)?;
    let (order, stream) = rest.split_once('_').ok_or(BadToken)?;
    Ok((number(depth)?, number(order)?, number(stream)?))
}

fn number<T: FromStr>(text: &str) -> Result<T, BadToken> {
    text.parse().map_err(|_| BadToken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_token_survives_the_wire() {
        let token = StreamToken {
            epoch: 3,
            position: Position(70),
            to_device: Position(9),
            incarnation: 0xbeef,
            ephemeral: 12,
        };

        assert_eq!(token.to_string().parse(), Ok(token));
    }

    #[test]
    fn a_page_token_survives_the_wire() {
        for token in [
            PageToken::Topological {
                depth: 7,
                order: -2,
            },
            PageToken::Stream { order: 5 },
            PageToken::Before {
                depth: 4,
                order: -7,
                stream: 90,
            },
            PageToken::After {
                depth: 4,
                order: 7,
                stream: -90,
            },
        ] {
            assert_eq!(token.to_string().parse(), Ok(token));
        }
    }

    #[test]
    fn a_stream_token_is_a_place_in_every_room() {
        let token = StreamToken {
            position: Position(70),
            ..StreamToken::default()
        };

        assert_eq!(
            token.to_string().parse(),
            Ok(PageToken::Stream { order: 70 })
        );
    }

    #[test]
    fn rubbish_is_refused() {
        for rubbish in ["", "s1_", "s1_1_2_3_4_5_6", "t1_5", "o1_x", "b1_1_2", "x"] {
            assert_eq!(rubbish.parse::<PageToken>(), Err(BadToken), "{rubbish}");
            assert_eq!(rubbish.parse::<StreamToken>(), Err(BadToken), "{rubbish}");
        }
    }
}
