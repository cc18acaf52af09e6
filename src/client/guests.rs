//! What guests may ask for (specification, "Guest Access"). Everything else is refused.

use axum::extract::MatchedPath;
use http::{Method, StatusCode, request::Parts};
use ruma::api::error::ErrorKind;

use crate::http::ApiError;

/// Refuses a guest's request unless the specification opens its endpoint to guests.
///
/// # Errors
///
/// `M_GUEST_ACCESS_FORBIDDEN`.
pub(super) fn check(parts: &Parts) -> Result<(), ApiError> {
    let path = parts.extensions.get::<MatchedPath>();
    let is_open = path.is_some_and(|path| is_open(&parts.method, path.as_str(), parts.uri.path()));
    if is_open { Ok(()) } else { Err(forbidden()) }
}

/// 403 `M_GUEST_ACCESS_FORBIDDEN`.
pub(super) fn forbidden() -> ApiError {
    ApiError::new(
        StatusCode::FORBIDDEN,
        ErrorKind::GuestAccessForbidden,
        "guests may not do this",
    )
}

/// `route` has numbers for the names of its parameters; `path` is what was asked for.
fn is_open(method: &Method, route: &str, path: &str) -> bool {
    let Some((_version, route)) = route
        .strip_prefix("/_matrix/client/")
        .and_then(|route| route.split_once('/'))
    else {
        return false;
    };
    match method.as_str() {
        "GET" => matches!(
            route,
            "rooms/{1}/state"
                | "rooms/{1}/context/{2}"
                | "rooms/{1}/event/{2}"
                | "rooms/{1}/state/{2}"
                | "rooms/{1}/state/{2}/"
                | "rooms/{1}/state/{2}/{3}"
                | "rooms/{1}/messages"
                | "rooms/{1}/members"
                | "rooms/{1}/initialSync"
                | "sync"
                | "events"
                | "media/download/{1}/{2}"
                | "media/download/{1}/{2}/{3}"
                | "media/thumbnail/{1}/{2}"
                | "devices"
                | "devices/{1}"
                | "account/whoami"
        ),
        "POST" => matches!(
            route,
            // The second form of joining is the first one with an alias.
            "rooms/{1}/join"
                | "join/{1}"
                | "rooms/{1}/leave"
                | "keys/upload"
                | "keys/query"
                | "keys/claim"
        ),
        "PUT" => {
            matches!(
                route,
                "rooms/{1}/send/{2}/{3}"
                    | "rooms/{1}/state/{2}"
                    | "rooms/{1}/state/{2}/"
                    | "rooms/{1}/state/{2}/{3}"
                    | "sendToDevice/{1}/{2}"
                    | "devices/{1}"
            ) || is_display_name(route, path)
        }
        "DELETE" => is_display_name(route, path),
        _ => false,
    }
}

fn is_display_name(route: &str, path: &str) -> bool {
    route.starts_with("profile/{1}") && path.ends_with("/displayname")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_is_closed() {
        let open = |method: Method, route: &str, path: &str| is_open(&method, route, path);
        let v3 = "/_matrix/client/v3";

        assert!(open(Method::GET, &format!("{v3}/sync"), ""));
        assert!(!open(Method::POST, &format!("{v3}/sync"), ""));
        assert!(!open(Method::POST, &format!("{v3}/createRoom"), ""));
        let profile = format!("{v3}/profile/{{1}}/{{2}}");
        assert!(open(Method::PUT, &profile, "/profile/@a:b/displayname"));
        assert!(!open(Method::PUT, &profile, "/profile/@a:b/avatar_url"));
    }
}
