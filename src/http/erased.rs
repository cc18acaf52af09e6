//! Handlers whose types are forgotten.

use std::{fmt, sync::Arc};

use axum::{extract::Request, handler::Handler, response::Response};
use futures_util::future::BoxFuture;

type Answer = BoxFuture<'static, Response>;

/// A handler of which only remains that it answers requests.
///
/// The compiler goes through all that a handler awaits, and all that this awaits, each time it meets the handler's type:
/// in the router a dozen times for each of some hundred handlers. It meets this type instead.
#[derive(Clone)]
pub(super) struct Erased<S>(Arc<dyn Fn(Request, S) -> Answer + Send + Sync>);

impl<S> Erased<S> {
    pub(super) fn new<Args: 'static>(handler: impl Handler<Args, S, Future = Answer>) -> Self
    where
        S: 'static,
    {
        Self(Arc::new(move |request, state| {
            handler.clone().call(request, state)
        }))
    }
}

impl<S> fmt::Debug for Erased<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Erased")
    }
}

impl<S: Clone + Send + Sync + 'static> Handler<(), S> for Erased<S> {
    type Future = Answer;

    fn call(self, request: Request, state: S) -> Answer {
        (self.0)(request, state)
    }
}
