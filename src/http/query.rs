//! Changing what the query of a request says, before `ruma` reads it.

use http::{Request, Uri};

/// Replaces the query; a request whose address would be none stays as it is.
pub fn replace<B>(request: &mut Request<B>, query: &str) {
    let path_and_query = format!("{}?{query}", request.uri().path());
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = path_and_query.parse().ok().or(parts.path_and_query);
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}
