//! Pages on which users complete stages of authentication that their clients do not know.

use axum::{
    Form,
    extract::{Path, Query, State},
    response::{Html, IntoResponse, Response},
};
use hearth_core::config::Policy;
use hearth_users::{
    Uia,
    uia::{Attempt, FallbackError, OpenStage, Progress, Stage},
};
use http::{Method, StatusCode, header};
use serde::Deserialize;

use super::ClientState;
use crate::http::{
    Action, Api, ApiError, Authentication, ClientAddress, RateLimits, system::escape,
};

/// What tells the client that it can go on; the specification gives it.
const DONE: &str = "if (window.onAuthDone) { window.onAuthDone(); } \
                    else if (window.opener && window.opener.postMessage) \
                    { window.opener.postMessage('authDone', '*'); }";

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    ["r0", "v3"].into_iter().fold(Api::new(), |api, version| {
        let path = format!("/_matrix/client/{version}/auth/{{auth_type}}/fallback/web");
        api.route(Method::GET, &path, Authentication::None, show_stage)
            .route(Method::POST, &path, Authentication::None, complete_stage)
    })
}

#[derive(Debug, Deserialize)]
struct SessionQuery {
    #[serde(default)]
    session: String,
}

/// What a user enters on a page.
#[derive(Deserialize)]
struct Entered {
    password: Option<String>,
    token: Option<String>,
}

/// `GET /_matrix/client/*/auth/{authType}/fallback/web`
async fn show_stage(
    State(uia): State<Uia>,
    Path(stage): Path<String>,
    Query(query): Query<SessionQuery>,
) -> Result<Response, ApiError> {
    page(uia.find_stage(&query.session, &stage).await)
}

/// `POST /_matrix/client/*/auth/{authType}/fallback/web`, which the page itself sends.
async fn complete_stage(
    State(uia): State<Uia>,
    State(limits): State<RateLimits>,
    address: ClientAddress,
    Path(stage): Path<String>,
    Query(query): Query<SessionQuery>,
    Form(entered): Form<Entered>,
) -> Result<Response, ApiError> {
    limits.check_address(Action::Login, address)?;
    let attempt = Attempt {
        password: entered.password,
        token: entered.token,
        ..Attempt::default()
    };
    page(uia.complete_stage(&query.session, &stage, attempt).await)
}

fn page(outcome: Result<OpenStage, FallbackError>) -> Result<Response, ApiError> {
    let open = match outcome {
        Ok(open) => open,
        Err(FallbackError::Unknown) => {
            let body = "<p>This page is out of date. Go back to your client and try again.</p>";
            return Ok(html(StatusCode::NOT_FOUND, "Out of date", body, ""));
        }
        Err(FallbackError::Uia(error)) => return Err(error.into()),
    };
    let title = match open.stage {
        Stage::Password => "Confirm that it is you",
        Stage::Dummy => "Go on",
        Stage::RegistrationToken => "Registration token",
        Stage::Terms => "Terms",
    };
    Ok(match open.progress {
        Progress::Completed => {
            let nonce = format!("{:032x}", rand::random::<u128>());
            let body = format!(
                "<p>Done. You can go back to your client.</p><script nonce=\"{nonce}\">{DONE}</script>"
            );
            html(StatusCode::OK, title, &body, &nonce)
        }
        Progress::Open => html(StatusCode::OK, title, &form(&open), ""),
        Progress::Failed(failure) => {
            let failure = escape(&failure.to_string());
            let body = format!("<p class=\"failure\">{failure}</p>{}", form(&open));
            html(StatusCode::FORBIDDEN, title, &body, "")
        }
    })
}

fn form(open: &OpenStage) -> String {
    let (fields, button) = match open.stage {
        Stage::Password => (
            "<label>Your password<input type=\"password\" name=\"password\" autocomplete=\"current-password\" \
             required></label>"
                .to_owned(),
            "Confirm",
        ),
        Stage::RegistrationToken => (
            "<label>The token that you were given<input name=\"token\" autocomplete=\"off\" required></label>".to_owned(),
            "Go on",
        ),
        Stage::Terms => (policies(&open.policies), "I agree"),
        Stage::Dummy => (String::new(), "Go on"),
    };
    format!("<form method=\"post\">{fields}<button>{button}</button></form>")
}

fn policies(policies: &[Policy]) -> String {
    let links = policies.iter().map(|policy| {
        format!(
            "<li><a href=\"{}\" target=\"_blank\" rel=\"noopener noreferrer\">{}</a></li>",
            escape(&policy.url),
            escape(&policy.name)
        )
    });
    format!(
        "<p>To go on, agree to</p><ul>{}</ul>",
        links.collect::<String>()
    )
}

/// A page that runs no script but the one with `nonce`, and cannot be framed.
fn html(status: StatusCode, title: &str, body: &str, nonce: &str) -> Response {
    let script = match nonce {
        "" => String::new(),
        nonce => format!("script-src 'nonce-{nonce}'; "),
    };
    let policy = format!(
        "default-src 'none'; style-src 'unsafe-inline'; {script}form-action 'self'; frame-ancestors 'none'"
    );
    let page = include_str!("uiaa/page.html")
        .replace("@TITLE@", title)
        .replace("@BODY@", body);
    let headers = [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    (status, headers, Html(page)).into_response()
}
