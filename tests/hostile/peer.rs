//! Another server as a test wants it to be: it speaks TLS, has a key, and answers what it is told to.

use std::{
    convert::Infallible,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::body::Body;
use bytes::Bytes;
use hearth_core::signing::ServerKey;
use hearth_federation::authentication::Content;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Collected};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use ruma::{
    CanonicalJsonObject, OwnedServerName, OwnedServerSigningKeyId, ServerName,
    api::federation::authentication::XMatrix,
    serde::{Base64, base64::Standard},
    signatures::{KeyPair as _, sign_json},
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::{
    certificates::Authority,
    process::{self, Hearth},
};

/// Up to when the keys of peers are good.
pub(crate) const FOREVER: i64 = 4_000_000_000_000;

/// A request that a peer got.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// What comes after the host, with the query.
    pub(crate) path: String,
    pub(crate) body: Bytes,
}

/// What a peer answers; nothing means that it does not know the question.
pub(crate) type Answers = dyn Fn(&Question) -> Option<Response<Body>> + Send + Sync;

/// A server that answers until it is dropped.
pub(crate) struct Peer {
    /// `localhost:…`
    pub(crate) name: OwnedServerName,
    pub(crate) key: ServerKey,
    answers: Arc<Mutex<Arc<Answers>>>,
    connections: Arc<AtomicUsize>,
    http: reqwest::Client,
    _until: DropGuard,
}

/// The configuration, from the section `[database]` on, of a server that trusts peers on this machine.
pub(crate) fn trusting(authority: &Authority) -> String {
    let file = authority.file.display();
    format!("[federation]\nca_file = \"{file}\"\nallow_private_addresses = true\n")
}

/// An answer in JSON.
pub(crate) fn reply(value: &Value) -> Response<Body> {
    let response = Response::builder().header(header::CONTENT_TYPE, "application/json");
    response.body(Body::from(value.to_string())).unwrap()
}

impl Peer {
    /// Starts a server whose certificate `authority` vouches for and whose files are in `folder`; it tells its keys.
    pub(crate) async fn start(authority: &Authority, folder: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let name = ServerName::parse(format!("localhost:{port}")).unwrap();
        let key = ServerKey::from_seed(&[7; 32]);
        let nothing: Arc<Answers> = Arc::new(|_: &Question| None);
        let answers = Arc::new(Mutex::new(nothing));
        let service = Service {
            answers: Arc::clone(&answers),
            keys: Arc::new(published(&name, &key)),
        };
        let until = CancellationToken::new();
        let acceptor = acceptor(authority, folder, &[b"h2", b"http/1.1"]);
        let connections = Arc::new(AtomicUsize::new(0));
        let serving = serve(listener, acceptor, service, Arc::clone(&connections));
        let ended = until.clone();
        TaskTracker::new().spawn(async move { ended.run_until_cancelled(serving).await });
        Self {
            name,
            key,
            answers,
            connections,
            http: process::client(),
            _until: until.drop_guard(),
        }
    }

    /// How many connections were opened to it.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// From now on it answers what `answers` says; its keys it tells by itself unless that does.
    pub(crate) fn answer(
        &self,
        answers: impl Fn(&Question) -> Option<Response<Body>> + Send + Sync + 'static,
    ) {
        *self.answers.lock().unwrap() = Arc::new(answers);
    }

    /// The value of `Authorization` for a request of `origin`, signed with this peer's key.
    pub(crate) fn authorization(
        &self,
        (origin, destination): (&str, &str),
        (method, path, body): (&Method, &str, &[u8]),
    ) -> String {
        let uri = path.parse().unwrap();
        let content = Content {
            method,
            uri: &uri,
            body,
        };
        let origin = ServerName::parse(origin).unwrap();
        let destination = ServerName::parse(destination).unwrap();
        let signed = content.signed(&origin, &destination).unwrap();
        let signature = self.key.sign(signed.as_bytes());
        let key_id = OwnedServerSigningKeyId::try_from(self.key.id()).unwrap();
        let signature = Base64::new(signature.as_bytes().to_vec());
        XMatrix::new(origin, destination, key_id, signature).to_string()
    }

    /// Makes a signed request to a server.
    pub(crate) async fn send(
        &self,
        hearth: &Hearth,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> (StatusCode, Value) {
        let names = (self.name.as_str(), "localhost");
        let header = self.authorization(names, (&method, path, &body));
        self.send_under(hearth, header, (method, path, body)).await
    }

    /// Makes a request with this authorization.
    pub(crate) async fn send_under(
        &self,
        hearth: &Hearth,
        authorization: String,
        (method, path, body): (Method, &str, Vec<u8>),
    ) -> (StatusCode, Value) {
        let url = format!("{}{path}", hearth.address());
        let request = self.http.request(method, url).body(body);
        let request = request.header(header::AUTHORIZATION, authorization);
        let answer = request.send().await.unwrap();
        (answer.status(), answer.json().await.unwrap_or(Value::Null))
    }

    /// Sends a transaction.
    pub(crate) async fn transact(
        &self,
        hearth: &Hearth,
        txn_id: &str,
        (pdus, edus): (Vec<Value>, Vec<Value>),
    ) -> (StatusCode, Value) {
        let path = format!("/_matrix/federation/v1/send/{txn_id}");
        let body = json!({
            "origin": self.name, "origin_server_ts": 1_750_000_000_000_i64, "pdus": pdus, "edus": edus,
        });
        let body = body.to_string().into_bytes();
        self.send(hearth, Method::PUT, &path, body).await
    }
}

/// What a server tells about its keys.
fn published(name: &ServerName, key: &ServerKey) -> Value {
    let public = Base64::<Standard>::new(key.public().as_bytes().to_vec());
    let mut object: CanonicalJsonObject = serde_json::from_value(json!({
        "server_name": name, "valid_until_ts": FOREVER, "old_verify_keys": {},
        "verify_keys": { (key.id()): { "key": public.encode() } },
    }))
    .unwrap();
    sign_json(name.as_str(), key, &mut object).unwrap();
    serde_json::to_value(object).unwrap()
}

/// TLS as `localhost`, for these protocols.
pub(crate) fn acceptor(authority: &Authority, folder: &Path, protocols: &[&[u8]]) -> TlsAcceptor {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (certificate, key) = authority.certify("localhost", folder);
    let chain = CertificateDer::pem_file_iter(certificate).unwrap();
    let chain = chain.map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    let config = rustls::ServerConfig::builder().with_no_client_auth();
    let mut config = config.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

#[derive(Clone)]
struct Service {
    answers: Arc<Mutex<Arc<Answers>>>,
    keys: Arc<Value>,
}

async fn serve(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    service: Service,
    count: Arc<AtomicUsize>,
) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        count.fetch_add(1, Ordering::Relaxed);
        let (acceptor, service) = (acceptor.clone(), service.clone());
        connections.spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let answering = service_fn(move |request| service.clone().answer(request));
            let builder = Builder::new(TokioExecutor::new());
            let serving = builder.serve_connection(TokioIo::new(stream), answering);
            // The other side may go whenever it likes.
            let _ = serving.await;
        });
    }
}

impl Service {
    async fn answer(self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await;
        let path = parts.uri.path_and_query().unwrap();
        let question = Question {
            path: path.to_string(),
            body: body.map(Collected::to_bytes).unwrap_or_default(),
        };
        let answers = Arc::clone(&self.answers.lock().unwrap());
        let answer = answers(&question).unwrap_or_else(|| {
            if question.path.starts_with("/_matrix/key/v2/server") {
                return reply(&self.keys);
            }
            let mut unknown = reply(&json!({ "errcode": "M_UNRECOGNIZED", "error": "unknown" }));
            *unknown.status_mut() = StatusCode::NOT_FOUND;
            unknown
        });
        Ok(answer)
    }
}
