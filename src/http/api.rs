//! The routes of the server, and a list of them.

use std::{collections::BTreeSet, convert::Infallible};

use axum::{
    Extension, Router,
    extract::Request,
    handler::Handler,
    response::{IntoResponse, Response},
    routing::{MethodRouter, Route as Service},
};
use futures_util::future::BoxFuture;
use http::Method;
use ruma::api::{IncomingRequest, Metadata, path_builder::PathBuilder as _};
use tower::{Layer, Service as TowerService};

use super::{
    erased::Erased,
    error::ApiError,
    interactive::Interactive,
    ruma::{Ruma, WithBody},
    signed::Signed,
};

/// How the caller of a route says who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Authentication {
    /// Not at all.
    None,
    /// By an access token.
    AccessToken,
    /// By an access token, if it likes.
    AccessTokenOptional,
    /// By the token of an application service.
    AppserviceToken,
    /// By the token of an application service, if it likes.
    AppserviceTokenOptional,
    /// By the signature of a server.
    ServerSignatures,
}

impl Authentication {
    /// What `ruma` says about `R`.
    fn of<R: Metadata>() -> Self {
        // The schemes have no names of their own, and bear no data to tell them apart by.
        let name = std::any::type_name::<R::Authentication>();
        match name.rsplit("::").next().unwrap_or(name) {
            "NoAuthentication" | "NoAccessToken" => Self::None,
            "AccessTokenOptional" => Self::AccessTokenOptional,
            "AppserviceToken" => Self::AppserviceToken,
            "AppserviceTokenOptional" => Self::AppserviceTokenOptional,
            "ServerSignatures" => Self::ServerSignatures,
            _ => Self::AccessToken,
        }
    }
}

/// One method of one path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The path, with the names that the specification's parameters have in `ruma`.
    pub path: String,
    /// The method as it is written in a request.
    pub method: String,
    /// How the caller says who it is.
    pub authentication: Authentication,
}

/// The mark of requests that the specification wants to be limited; whoever finds out who makes one counts it.
#[derive(Clone, Copy, Debug)]
pub struct Metered;

/// A handler whose last argument is a request of `ruma`, which says where it is served: [`Ruma`], [`WithBody`],
/// [`Interactive`] or [`Signed`].
pub trait Endpoint<Args, S>: Handler<Args, S, Future = BoxFuture<'static, Response>> {
    /// That request.
    type Request: IncomingRequest;
}

macro_rules! endpoints {
    ($(($($arg:ident)*))*) => { $(
        impl<F, S, Mark, $($arg,)* R> Endpoint<(Mark, $($arg,)* Ruma<R>,), S> for F
        where
            F: Handler<(Mark, $($arg,)* Ruma<R>,), S, Future = BoxFuture<'static, Response>>,
            R: IncomingRequest,
        {
            type Request = R;
        }

        impl<F, S, Mark, $($arg,)* R> Endpoint<(Mark, $($arg,)* WithBody<R>,), S> for F
        where
            F: Handler<(Mark, $($arg,)* WithBody<R>,), S, Future = BoxFuture<'static, Response>>,
            R: IncomingRequest,
        {
            type Request = R;
        }

        impl<F, S, Mark, $($arg,)* R> Endpoint<(Mark, $($arg,)* Interactive<R>,), S> for F
        where
            F: Handler<(Mark, $($arg,)* Interactive<R>,), S, Future = BoxFuture<'static, Response>>,
            R: IncomingRequest,
        {
            type Request = R;
        }

        impl<F, S, Mark, $($arg,)* R> Endpoint<(Mark, $($arg,)* Signed<R>,), S> for F
        where
            F: Handler<(Mark, $($arg,)* Signed<R>,), S, Future = BoxFuture<'static, Response>>,
            R: IncomingRequest,
        {
            type Request = R;
        }
    )* };
}

endpoints! { () (A) (A B) (A B C) (A B C D) (A B C D E) (A B C D E G) (A B C D E G H) }

/// A router that knows its routes.
#[derive(Clone, Debug)]
#[must_use]
pub struct Api<S = ()> {
    router: Router<S>,
    routes: BTreeSet<Route>,
}

impl<S: Clone + Send + Sync + 'static> Default for Api<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Clone + Send + Sync + 'static> Api<S> {
    /// Serves nothing.
    pub fn new() -> Self {
        Self {
            router: Router::new(),
            routes: BTreeSet::new(),
        }
    }

    /// Serves `handler` at all paths, stable and unstable, of the request that it takes.
    ///
    /// Where a path ends in a state key, the key may be empty and its slash missing.
    ///
    /// # Panics
    ///
    /// When the same method of a path is served already.
    pub fn endpoint<Args: 'static, E: Endpoint<Args, S>>(self, handler: E) -> Self {
        self.read_by_hand::<E::Request, Args>(handler)
    }

    /// Serves `handler` at all paths of the request `R`, which the handler reads by itself.
    ///
    /// # Panics
    ///
    /// When the same method of a path is served already.
    pub fn read_by_hand<R: Metadata, Args: 'static>(
        self,
        handler: impl Handler<Args, S, Future = BoxFuture<'static, Response>>,
    ) -> Self {
        let authentication = Authentication::of::<R>();
        let history = R::PATH_BUILDER;
        let mut service = on(R::METHOD, Erased::new(handler));
        if R::RATE_LIMITED {
            service = service.layer(Extension(Metered));
        }
        let mut api = self;
        for path in history.all_paths() {
            api.record(&R::METHOD, path, authentication);
            if let Some(short) = path.strip_suffix("/{state_key}") {
                for path in [short.to_owned(), format!("{short}/")] {
                    api = api.add(&path, service.clone());
                }
            }
            api = api.add(path, service.clone());
        }
        api
    }

    /// Serves `handler` at a path that `ruma` does not know.
    ///
    /// # Panics
    ///
    /// When the same method of a path is served already.
    pub fn route<Args: 'static>(
        mut self,
        method: Method,
        path: &str,
        authentication: Authentication,
        handler: impl Handler<Args, S, Future = BoxFuture<'static, Response>>,
    ) -> Self {
        self.record(&method, path, authentication);
        self.add(path, on(method, Erased::new(handler)))
    }

    fn record(&mut self, method: &Method, path: &str, authentication: Authentication) {
        self.routes.insert(Route {
            path: path.to_owned(),
            method: method.to_string(),
            authentication,
        });
    }

    fn add(self, path: &str, service: MethodRouter<S>) -> Self {
        let router = self.router.route(&positional(path), service);
        Self { router, ..self }
    }

    /// Serves the routes of `other` as well.
    pub fn merge(mut self, other: Self) -> Self {
        self.routes.extend(other.routes);
        self.router = self.router.merge(other.router);
        self
    }

    /// Puts `layer` around all routes that were added so far.
    pub fn layer<L>(self, layer: L) -> Self
    where
        L: Layer<Service> + Clone + Send + Sync + 'static,
        L::Service: TowerService<Request> + Clone + Send + Sync + 'static,
        <L::Service as TowerService<Request>>::Response: IntoResponse + 'static,
        <L::Service as TowerService<Request>>::Error: Into<Infallible> + 'static,
        <L::Service as TowerService<Request>>::Future: Send + 'static,
    {
        Self {
            router: self.router.layer(layer),
            ..self
        }
    }

    /// Gives the handlers what they need.
    pub fn with_state<S2: Clone + Send + Sync + 'static>(self, state: S) -> Api<S2> {
        Api {
            router: self.router.with_state(state),
            routes: self.routes,
        }
    }

    /// What is served, in alphabetical order.
    #[must_use]
    pub fn routes(&self) -> &BTreeSet<Route> {
        &self.routes
    }
}

impl Api<()> {
    /// The router, which answers everything else with `M_UNRECOGNIZED`.
    pub fn into_router(self) -> Router {
        self.router
            .fallback(|| async { ApiError::unrecognized() })
            .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
    }
}

/// Answers to one method.
fn on<S: Clone + Send + Sync + 'static>(method: Method, handler: Erased<S>) -> MethodRouter<S> {
    let filter = method.try_into().expect("a common method");
    axum::routing::on(filter, handler)
}

/// `path` with numbers for the names of its parameters.
///
/// The router refuses two names for one place, and endpoints differ in them.
fn positional(path: &str) -> String {
    let mut count = 0;
    let mut number = |segment: &str| {
        if segment.starts_with('{') {
            count += 1;
            format!("{{{count}}}")
        } else {
            segment.to_owned()
        }
    };
    let segments: Vec<_> = path.split('/').map(&mut number).collect();
    segments.join("/")
}

#[cfg(test)]
mod tests;
