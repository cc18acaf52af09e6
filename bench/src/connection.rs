//! One kept-alive HTTP/1.1 connection, as one client has it.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Bytes,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet, time::timeout};

use crate::error::BenchError;

/// Where the server is.
#[derive(Debug)]
pub(crate) struct Target {
    /// Host and port.
    address: String,
    /// What the server is told that it is called.
    host: HeaderValue,
}

impl Target {
    /// Reads a URL such as `http://127.0.0.1:8008`.
    pub(crate) fn parse(url: &str) -> Result<Self, BenchError> {
        let address = url
            .strip_prefix("http://")
            .map(|rest| rest.trim_end_matches('/'))
            .filter(|rest| !rest.is_empty() && !rest.contains('/'))
            .ok_or_else(|| {
                BenchError::Usage(format!("{url} is not of the form http://host:port"))
            })?;
        let host = HeaderValue::from_str(address).map_err(http::Error::from)?;
        let address = match address.rsplit_once(':') {
            Some((_, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => address.to_owned(),
            _ => format!("{address}:80"),
        };
        Ok(Self { address, host })
    }
}

/// What to ask for.
#[derive(Clone, Debug)]
pub(crate) struct Ask<'a> {
    /// The method.
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: String,
    /// The JSON to send; nothing when empty.
    pub(crate) body: String,
    /// The `Authorization`.
    pub(crate) token: Option<&'a HeaderValue>,
    /// When to give up.
    pub(crate) limit: Duration,
}

/// A connection that is made when it is needed and made anew when it broke.
#[derive(Debug)]
pub(crate) struct Connection {
    target: Arc<Target>,
    sender: Option<SendRequest<Full<Bytes>>>,
    /// What moves the bytes; it ends with the connection.
    driver: JoinSet<()>,
}

impl Connection {
    /// Prepares a connection to `target`.
    pub(crate) fn new(target: Arc<Target>) -> Self {
        Self {
            target,
            sender: None,
            driver: JoinSet::new(),
        }
    }

    /// Asks and waits for the whole answer, which must be a success.
    pub(crate) async fn ask(&mut self, ask: Ask<'_>) -> Result<Bytes, BenchError> {
        let what = format!("{} {}", ask.method, ask.path);
        let (status, body) = self.ask_any(ask).await?;
        if status.is_success() {
            return Ok(body);
        }
        let body = String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
        Err(BenchError::Refused { what, status, body })
    }

    /// Asks and waits for the whole answer, whatever its status.
    pub(crate) async fn ask_any(
        &mut self,
        ask: Ask<'_>,
    ) -> Result<(StatusCode, Bytes), BenchError> {
        let answer = timeout(ask.limit, self.exchange(&ask)).await;
        if !matches!(answer, Ok(Ok(_))) {
            self.sender = None;
        }
        answer.unwrap_or(Err(BenchError::TimedOut))
    }

    async fn exchange(&mut self, ask: &Ask<'_>) -> Result<(StatusCode, Bytes), BenchError> {
        match self.exchange_once(ask).await {
            // The server had closed the connection before it saw the request.
            Err(BenchError::Connection(error)) if error.is_canceled() => {
                self.sender = None;
                self.exchange_once(ask).await
            }
            answer => answer,
        }
    }

    async fn exchange_once(&mut self, ask: &Ask<'_>) -> Result<(StatusCode, Bytes), BenchError> {
        let request = self.request(ask)?;
        let sender = match &mut self.sender {
            Some(sender) if !sender.is_closed() => sender,
            none => none.insert(connect(&self.target, &mut self.driver).await?),
        };
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Request<Full<Bytes>>, BenchError> {
        let mut request = Request::builder()
            .method(&ask.method)
            .uri(&ask.path)
            .header(header::HOST, &self.target.host);
        if let Some(token) = ask.token {
            request = request.header(header::AUTHORIZATION, token);
        }
        if !ask.body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        Ok(request.body(Full::from(ask.body.clone()))?)
    }
}

async fn connect(
    target: &Target,
    driver: &mut JoinSet<()>,
) -> Result<SendRequest<Full<Bytes>>, BenchError> {
    let stream = TcpStream::connect(&target.address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    driver.abort_all();
    driver.spawn(async move {
        // Whoever waits for the answer is told of the error too.
        let _ = connection.await;
    });
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_become_addresses() {
        let address = |url| Target::parse(url).map(|target| target.address).ok();

        assert_eq!(
            address("http://127.0.0.1:8008").as_deref(),
            Some("127.0.0.1:8008")
        );
        assert_eq!(
            address("http://localhost/").as_deref(),
            Some("localhost:80")
        );
        assert_eq!(address("https://localhost"), None);
        assert_eq!(address("http://localhost/_matrix"), None);
    }
}
