//! Walking through the history in topological order, and the tokens that say where one is.

use hearth_core::token::PageToken;
use hearth_store::timeline::{Place, Span};
use ruma::api::Direction;

use crate::{event::RoomEvent, room::Room};

/// The token that stands just before an event in topological order.
#[must_use]
pub fn before(event: &RoomEvent) -> PageToken {
    PageToken::Topological {
        depth: event.pdu.depth,
        order: order_of(event) - 1,
    }
}

/// The token that stands just after an event in topological order.
#[must_use]
pub fn after(event: &RoomEvent) -> PageToken {
    PageToken::Topological {
        depth: event.pdu.depth,
        order: order_of(event),
    }
}

fn order_of(event: &RoomEvent) -> i64 {
    event.stream_order().unwrap_or_default()
}

/// What is left of the history on the way through it.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    pub(crate) direction: Direction,
    pub(crate) span: Span,
    /// The place in the stream where the walk began.
    stream: Option<i64>,
}

impl Walk {
    pub(crate) fn new(
        room: &Room,
        direction: Direction,
        from: Option<PageToken>,
        to: Option<PageToken>,
        ceiling: Option<i64>,
    ) -> Self {
        let mut span = Span::all(room.nid);
        let (upper, lower) = match direction {
            Direction::Backward => (from, to),
            Direction::Forward => (to, from),
        };
        if let Some(token) = upper {
            end_at(&mut span, token);
        }
        if let Some(token) = lower {
            begin_at(&mut span, token);
        }
        let stream = match (direction, from) {
            (_, Some(PageToken::Stream { order }))
            | (Direction::Backward, Some(PageToken::Before { stream: order, .. }))
            | (Direction::Forward, Some(PageToken::After { stream: order, .. })) => Some(order),
            _ => None,
        };
        if let Some(ceiling) = ceiling {
            span.stream_high = span.stream_high.min(ceiling);
        }
        Self {
            direction,
            span,
            stream,
        }
    }

    /// Goes on behind a place.
    pub(crate) fn pass(&mut self, place: Place) {
        match self.direction {
            Direction::Backward => self.span.high = (place.depth, place.stream_order - 1),
            Direction::Forward => self.span.low = (place.depth, place.stream_order),
        }
    }

    /// The token for going on after `event`.
    pub(crate) fn token(&self, event: &RoomEvent) -> PageToken {
        match self.direction {
            Direction::Backward => self.token_at(event.pdu.depth, order_of(event) - 1),
            Direction::Forward => self.token_at(event.pdu.depth, order_of(event)),
        }
    }

    /// The token for going on where the walk is.
    pub(crate) fn here(&self) -> PageToken {
        let (depth, order) = match self.direction {
            Direction::Backward => self.span.high,
            Direction::Forward => self.span.low,
        };
        self.token_at(depth, order)
    }

    fn token_at(&self, depth: i64, order: i64) -> PageToken {
        match (self.stream, self.direction) {
            (None, _) => PageToken::Topological { depth, order },
            (Some(stream), Direction::Backward) => PageToken::Before {
                depth,
                order,
                stream,
            },
            (Some(stream), Direction::Forward) => PageToken::After {
                depth,
                order,
                stream,
            },
        }
    }
}

/// Leaves of a span what lies before a token.
fn end_at(span: &mut Span, token: PageToken) {
    match token {
        PageToken::Topological { depth, order } | PageToken::After { depth, order, .. } => {
            span.high = span.high.min((depth, order));
        }
        PageToken::Stream { order } => span.stream_high = span.stream_high.min(order),
        PageToken::Before {
            depth,
            order,
            stream,
        } => {
            span.high = span.high.min((depth, order));
            span.stream_high = span.stream_high.min(stream);
        }
    }
}

/// Leaves of a span what lies after a token.
fn begin_at(span: &mut Span, token: PageToken) {
    match token {
        PageToken::Topological { depth, order } | PageToken::Before { depth, order, .. } => {
            span.low = span.low.max((depth, order));
        }
        PageToken::Stream { order } => span.stream_low = span.stream_low.max(order),
        PageToken::After {
            depth,
            order,
            stream,
        } => {
            span.low = span.low.max((depth, order));
            span.stream_low = span.stream_low.max(stream);
        }
    }
}
