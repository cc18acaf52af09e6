use axum::{body::Body, routing::post};
use hearth_core::config::{Limits, Size, Span};
use http_body_util::BodyExt as _;
use ruma::api::client::session::logout;
use tower::ServiceExt as _;

use super::*;
use crate::http::{Api, Authentication, Ruma, observe::REQUEST_ID};

async fn log_out(_: Ruma<logout::v3::Request>) -> Result<Ruma<logout::v3::Response>, ApiError> {
    Ok(Ruma(logout::v3::Response::new()))
}

async fn panic() {
    panic!("this test wants a panic");
}

async fn forever() {
    std::future::pending::<()>().await;
}

fn router(limits: Limits) -> Router {
    let api = Api::new()
        .endpoint(log_out)
        .route(Method::GET, "/panic", Authentication::None, panic)
        .route(Method::GET, "/forever", Authentication::None, forever)
        .route(Method::GET, "/long", Authentication::None, async || {
            "a".repeat(1025)
        })
        .route(Method::GET, "/short", Authentication::None, async || {
            "a".repeat(1000)
        });
    wrap(api.into_router(), Arc::new(Live::new(limits)))
}

async fn call(limits: Limits, request: http::request::Builder, body: Body) -> Response {
    router(limits)
        .oneshot(request.body(body).unwrap())
        .await
        .unwrap()
}

async fn text(response: Response) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn header(response: &Response, name: &str) -> String {
    let value = response.headers().get(name);
    value
        .map(|value| value.to_str().unwrap().to_owned())
        .unwrap_or_default()
}

#[tokio::test]
async fn every_answer_may_be_read_by_web_pages() {
    for path in ["/_matrix/client/v3/logout", "/nothing", "/panic", "/short"] {
        let response = call(Limits::default(), Request::get(path), Body::empty()).await;

        assert_eq!(header(&response, "access-control-allow-origin"), "*");
        assert_eq!(
            header(&response, "access-control-allow-methods"),
            "GET, POST, PUT, DELETE, OPTIONS"
        );
        assert_eq!(
            header(&response, "access-control-allow-headers"),
            "X-Requested-With, Content-Type, Authorization"
        );
    }
}

#[tokio::test]
async fn options_are_answered_without_logic() {
    for path in [
        "/_matrix/client/v3/logout",
        "/panic",
        "/_matrix/client/v3/unknown",
    ] {
        let request = Request::options(path)
            .header("origin", "https://app.example")
            .header("access-control-request-method", "POST");
        let response = call(Limits::default(), request, Body::empty()).await;

        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(header(&response, "access-control-allow-origin"), "*");
        assert_eq!(text(response).await, "");
    }
}

#[tokio::test]
async fn a_panic_is_an_internal_error_and_the_server_lives_on() {
    let response = call(Limits::default(), Request::get("/panic"), Body::empty()).await;

    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(text(response).await.contains("M_UNKNOWN"));
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused() {
    let limits = Limits {
        max_body: "1 KiB".parse::<Size>().unwrap(),
        ..Limits::default()
    };
    let body = Body::from(format!("{{\"a\":\"{}\"}}", "b".repeat(1024)));

    let response = call(limits, Request::post("/_matrix/client/v3/logout"), body).await;

    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert!(text(response).await.contains("M_TOO_LARGE"));
}

#[tokio::test]
async fn a_route_may_have_a_limit_of_its_own() {
    let limits = Limits {
        max_body: "1 KiB".parse::<Size>().unwrap(),
        ..Limits::default()
    };
    let length = async |body: bytes::Bytes| body.len().to_string();
    let route = post(length).layer(DefaultBodyLimit::max(4096));
    let router = wrap(Router::new().route("/", route), Arc::new(Live::new(limits)));
    let request = Request::post("/")
        .body(Body::from(vec![b'a'; 2048]))
        .unwrap();

    let response = router.oneshot(request).await.unwrap();

    assert_eq!(text(response).await, "2048");
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_given_up() {
    let limits = Limits {
        request_timeout: "50 ms".parse::<Span>().unwrap(),
        ..Limits::default()
    };

    let response = call(limits, Request::get("/forever"), Body::empty()).await;

    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(header(&response, "retry-after"), "5");
}

#[tokio::test]
async fn long_answers_are_compressed_and_short_ones_are_not() {
    for (path, encoding) in [("/long", "gzip"), ("/short", "")] {
        let request = Request::get(path).header("accept-encoding", "gzip, deflate");
        let response = call(Limits::default(), request, Body::empty()).await;
        assert_eq!(header(&response, "content-encoding"), encoding, "{path}");
    }
    let response = call(Limits::default(), Request::get("/long"), Body::empty()).await;
    assert_eq!(header(&response, "content-encoding"), "");
}

#[tokio::test]
async fn every_request_has_a_number_of_its_own() {
    let router = router(Limits::default());
    let mut numbers = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let request = Request::get("/short").body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        numbers.insert(header(&response, REQUEST_ID.as_str()));
    }
    assert_eq!(numbers.len(), 100);
}

#[test]
fn only_long_polls_may_wait() {
    assert!(waits("/_matrix/client/v3/sync"));
    assert!(waits(
        "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"
    ));
    assert!(waits("/_matrix/client/r0/events"));
    assert!(!waits("/_matrix/client/v3/rooms/{1}/messages"));
}
