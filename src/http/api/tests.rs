use axum::{body::Body, extract::State};
use http::StatusCode;
use http_body_util::BodyExt as _;
use ruma::{
    api::client::{
        alias::get_alias,
        discovery::get_supported_versions,
        membership::join_room_by_id,
        message::send_message_event,
        room::get_room_event,
        session::logout,
        state::{get_state_event_for_key, send_state_event},
    },
    event_id,
};
use serde_json::Value;
use tower::ServiceExt as _;

use super::*;

type Answer<T> = Result<Ruma<T>, ApiError>;

async fn versions(
    _: Ruma<get_supported_versions::Request>,
) -> Answer<get_supported_versions::Response> {
    Ok(Ruma(get_supported_versions::Response::new(vec![
        "v1.1".to_owned(),
    ])))
}

async fn send_state(
    State(()): State<()>,
    Ruma(request): Ruma<send_state_event::v3::Request>,
) -> Answer<send_state_event::v3::Response> {
    let ids = [
        event_id!("$empty").to_owned(),
        event_id!("$full").to_owned(),
    ];
    let [empty, full] = ids;
    Ok(Ruma(send_state_event::v3::Response::new(
        match request.state_key.as_str() {
            "" => empty,
            _ => full,
        },
    )))
}

async fn get_state(
    Ruma(request): Ruma<get_state_event_for_key::v3::Request>,
) -> Answer<get_state_event_for_key::v3::Response> {
    Err(ApiError::not_found(format!("no {}", request.state_key)))
}

async fn send(
    Ruma(request): Ruma<send_message_event::v3::Request>,
) -> Answer<send_message_event::v3::Response> {
    Err(ApiError::not_found(request.txn_id.to_string()))
}

async fn event(
    Ruma(request): Ruma<get_room_event::v3::Request>,
) -> Answer<get_room_event::v3::Response> {
    Err(ApiError::not_found(request.event_id.to_string()))
}

async fn join(
    Ruma(request): Ruma<join_room_by_id::v3::Request>,
) -> Answer<join_room_by_id::v3::Response> {
    Ok(Ruma(join_room_by_id::v3::Response::new(request.room_id)))
}

async fn alias(Ruma(request): Ruma<get_alias::v3::Request>) -> Answer<get_alias::v3::Response> {
    Err(ApiError::not_found(request.room_alias.to_string()))
}

async fn log_out(_: Ruma<logout::v3::Request>) -> Answer<logout::v3::Response> {
    Ok(Ruma(logout::v3::Response::new()))
}

fn api() -> Api {
    Api::new()
        .endpoint(versions)
        .endpoint(send_state)
        .endpoint(get_state)
        .endpoint(send)
        .endpoint(event)
        .endpoint(join)
        .endpoint(alias)
        .endpoint(log_out)
        .with_state(())
}

async fn call(method: Method, path: &str, body: &'static str) -> (StatusCode, Value) {
    let request = Request::builder().method(method).uri(path);
    let request = request.body(Body::from(body)).unwrap();
    let response = api().into_router().oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap())
}

#[test]
fn routes_are_listed_with_all_paths_and_their_authentication() {
    let api = api();
    let find = |path: &str, method: &str| {
        let is = |route: &&Route| route.path == path && route.method == method;
        api.routes()
            .iter()
            .find(is)
            .map(|route| route.authentication)
    };

    let versions = find("/_matrix/client/versions", "GET");
    assert_eq!(versions, Some(Authentication::AccessTokenOptional));
    for version in ["r0", "v3"] {
        let join = format!("/_matrix/client/{version}/rooms/{{room_id}}/join");
        assert_eq!(find(&join, "POST"), Some(Authentication::AccessToken));
    }
    assert_eq!(
        find("/_matrix/client/v3/directory/room/{room_alias}", "GET"),
        Some(Authentication::None)
    );
}

#[tokio::test]
async fn path_arguments_are_decoded() {
    let path = "/_matrix/client/v3/directory/room/%23tea%3Aexample.org";

    let (_, body) = call(Method::GET, path, "").await;

    assert_eq!(body["error"], "#tea:example.org");
}

#[tokio::test]
async fn a_state_key_may_be_empty() {
    let path = "/_matrix/client/v3/rooms/!a:b.c/state/m.room.name";

    for (path, id) in [
        (path.to_owned(), "$empty"),
        (format!("{path}/"), "$empty"),
        (format!("{path}/x"), "$full"),
    ] {
        let (_, body) = call(Method::PUT, &path, "{}").await;
        assert_eq!(body["event_id"], id, "{path}");
        let (status, _) = call(Method::GET, &path, "").await;
        assert_eq!(status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn an_empty_body_is_an_empty_object_except_for_put() {
    let join = "/_matrix/client/r0/rooms/!a:b.c/join";
    assert_eq!(call(Method::POST, join, "").await.0, StatusCode::OK);

    let logout = "/_matrix/client/v3/logout";
    assert_eq!(call(Method::POST, logout, "").await.0, StatusCode::OK);

    let send = "/_matrix/client/v3/rooms/!a:b.c/send/m.room.message/1";
    let (status, body) = call(Method::PUT, send, "").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(body["errcode"], "M_NOT_JSON");
}

#[tokio::test]
async fn a_body_that_is_no_json_differs_from_one_of_the_wrong_shape() {
    let send = "/_matrix/client/v3/rooms/!a:b.c/send/m.room.message/1";
    for (text, code) in [
        ("{", "M_NOT_JSON"),
        ("hello", "M_NOT_JSON"),
        ("{\"a\": NaN}", "M_NOT_JSON"),
        ("[]", "M_BAD_JSON"),
        ("7", "M_BAD_JSON"),
    ] {
        let (status, body) = call(Method::PUT, send, text).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert_eq!(body["errcode"], code, "{text}");
    }
    let join = "/_matrix/client/v3/rooms/!a:b.c/join";
    let (_, body) = call(Method::POST, join, "{\"reason\": 7}").await;
    assert_eq!(body["errcode"], "M_BAD_JSON");
}

#[tokio::test]
async fn a_bad_id_in_the_path_is_a_bad_parameter() {
    let (status, body) = call(Method::POST, "/_matrix/client/v3/rooms/tea/join", "").await;

    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(body["errcode"], "M_INVALID_PARAM");
}

#[tokio::test]
async fn an_unknown_path_and_a_wrong_method_are_unrecognized() {
    for path in [
        "/_matrix/client/v3/nothing",
        "/_matrix/key/v9",
        "/_matrix/media/x",
        "/x",
    ] {
        let (status, body) = call(Method::GET, path, "").await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert_eq!(body["errcode"], "M_UNRECOGNIZED");
    }

    let (status, body) = call(Method::PATCH, "/_matrix/client/v3/logout", "").await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(body["errcode"], "M_UNRECOGNIZED");
}
