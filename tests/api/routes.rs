//! Every route: which of the specification's are served, and that none is open by mistake.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::PathBuf,
};

use hearth::http::api::{Authentication, Route};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::PgPool;

use super::server::TestServer;

/// The endpoints of the specification: `METHOD path [notes]`, under `# module` and `## API` lines.
const SPECIFIED: &str = include_str!("../endpoints-v1.19.txt");

/// The endpoints that later versions of the specification added: `VERSION METHOD path`.
const ADDED: &str = include_str!("../endpoints-added.txt");

/// Endpoints that a server need not have: it is no policy server, and application services cannot be registered yet, so
/// that none can ask to be pinged.
const OPTIONAL: [&str; 2] = [
    "/.well-known/matrix/policy_server",
    "/_matrix/client/v1/appservice/{appserviceId}/ping",
];

/// The last version of the specification.
const LAST: u32 = 19;

/// The start of the table's line of an endpoint that is served.
const SERVED: &str = "| yes |";

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_route_refuses_requests_without_a_token(pool: PgPool) {
    let server = TestServer::new(pool).await;

    for route in server.routes() {
        if route.authentication != Authentication::AccessToken {
            continue;
        }
        let (status, body) = request(&server, &route, None).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{route:?} {body}");
        assert_eq!(body["errcode"], "M_MISSING_TOKEN", "{route:?}");
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_route_for_servers_refuses_requests_without_a_signature(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let mut count = 0;

    for route in server.routes() {
        if route.authentication != Authentication::ServerSignatures {
            continue;
        }
        let (status, body) = request(&server, &route, None).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{route:?} {body}");
        assert_eq!(body["errcode"], "M_UNAUTHORIZED", "{route:?}");
        count += 1;
    }

    assert!(count > 0);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_route_refuses_requests_with_a_wrong_token(pool: PgPool) {
    let server = TestServer::new(pool).await;

    for route in server.routes() {
        if route.authentication != Authentication::AccessToken {
            continue;
        }
        let (status, body) = request(&server, &route, Some("nonsense")).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{route:?} {body}");
        assert_eq!(body["errcode"], "M_UNKNOWN_TOKEN", "{route:?}");
    }
}

/// `docs/coverage.md` tells the truth, and what is served once stays served.
///
/// `HEARTH_WRITE_COVERAGE=1` writes the page anew.
#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn the_coverage_page_is_true(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/coverage.md");
    let old = std::fs::read_to_string(&file).unwrap_or_default();

    let page = page(&server.routes());

    let lost: Vec<_> = served(&old).difference(&served(&page)).cloned().collect();
    assert!(lost.is_empty(), "served before, and now no more: {lost:?}");
    if std::env::var_os("HEARTH_WRITE_COVERAGE").is_some() {
        std::fs::write(&file, page).unwrap();
    } else {
        assert!(
            old == page,
            "docs/coverage.md is out of date: run this test with HEARTH_WRITE_COVERAGE=1"
        );
    }
}

/// `/versions` claims what is served, and no less.
#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_version_is_claimed_when_all_that_it_added_is_served(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let served: BTreeSet<(String, String)> = server
        .routes()
        .iter()
        .map(|route| (route.method.clone(), nameless(&route.path)))
        .collect();
    let is_missing = |line: &str| {
        let mut parts = line.split(' ').skip(1);
        let (method, path) = (parts.next().unwrap(), parts.next().unwrap());
        !OPTIONAL.contains(&path) && !served.contains(&(method.to_owned(), nameless(path)))
    };
    let is_served = |minor: &u32| {
        let version = format!("v1.{minor} ");
        let mut added = ADDED.lines().filter(|line| line.starts_with(&version));
        !added.any(is_missing)
    };

    let (_, body) = server.get_anonymously("/_matrix/client/versions").await;

    let claimed = body["versions"].as_array().unwrap().iter();
    let claimed: Vec<&str> = claimed.map(|version| version.as_str().unwrap()).collect();
    let expected: Vec<String> = [
        "r0.5.0".to_owned(),
        "r0.6.0".to_owned(),
        "r0.6.1".to_owned(),
    ]
    .into_iter()
    .chain(
        (1..=LAST)
            .take_while(is_served)
            .map(|minor| format!("v1.{minor}")),
    )
    .collect();
    assert_eq!(claimed, expected);
}

async fn request(server: &TestServer, route: &Route, token: Option<&str>) -> (StatusCode, Value) {
    let method: Method = route.method.parse().unwrap();
    let path: Vec<&str> = route
        .path
        .split('/')
        .map(|segment| {
            if segment.starts_with('{') {
                "x"
            } else {
                segment
            }
        })
        .collect();
    server.send(method, &path.join("/"), token, json!({})).await
}

/// The page that says what is served.
fn page(routes: &BTreeSet<Route>) -> String {
    let served: BTreeSet<(String, String)> = routes
        .iter()
        .map(|route| (route.method.clone(), nameless(&route.path)))
        .collect();
    let mut page = String::from(
        "# Coverage\n\nThe endpoints of Matrix v1.19 and whether Hearth serves them. A test writes and checks this page.\n",
    );
    let mut module = "";
    let mut totals: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let mut api = "";
    for line in SPECIFIED.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            api = title.split(':').next().unwrap_or(title);
            write!(
                page,
                "\n## {api}\n\n| served | endpoint | module |\n|---|---|---|\n"
            )
            .unwrap();
        } else if let Some(name) = line.strip_prefix("# ") {
            module = name.trim_end_matches(".yaml");
        } else if let Some((method, rest)) = line.split_once(' ') {
            let path = rest.split_whitespace().next().unwrap_or_default();
            let known = served.contains(&(method.to_owned(), nameless(path)));
            let (yes, all) = totals.entry(api).or_default();
            *yes += usize::from(known);
            *all += 1;
            let mark = if known { SERVED } else { "| no |" };
            writeln!(page, "{mark} `{method} {path}` | {module} |").unwrap();
        }
    }
    page.push_str("\n## Totals\n\n");
    for (api, (yes, all)) in totals {
        writeln!(page, "- {api}: {yes} of {all}").unwrap();
    }
    page
}

/// The lines of a page that say yes.
fn served(page: &str) -> BTreeSet<String> {
    let lines = page.lines().filter(|line| line.starts_with(SERVED));
    lines.map(ToOwned::to_owned).collect()
}

/// A path without the names of its parameters, nor a slash at its end.
fn nameless(path: &str) -> String {
    let segments: Vec<&str> = path
        .trim_end_matches('/')
        .split('/')
        .map(|segment| {
            if segment.starts_with('{') {
                "{}"
            } else {
                segment
            }
        })
        .collect();
    segments.join("/")
}
