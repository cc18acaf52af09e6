//! A small internet: names in a DNS of its own, and servers with certificates on addresses of this machine.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use hearth_core::{Identity, signing::ServerKey};
use hickory_resolver::proto::{
    op::{Message, OpCode, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, CNAME, SRV},
    },
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use ruma::{ServerName, api::federation::discovery::get_server_version::v1 as get_server_version};
use rustls::{ClientConfig, RootCertStore, ServerConfig, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use crate::{
    client::{Bounds, Client, RequestError},
    connect::{Connector, Purpose},
    discovery::{address::Reach, dns::Dns},
};

/// Where well-known files are: tests may not listen at port 443.
pub(super) const WEB: u16 = 8_443;

/// Where servers are that name no port.
pub(super) const MATRIX: u16 = 8_448;

type Records = HashMap<(String, RecordType), Vec<RData>>;

/// Names, servers, and a client that knows only these.
pub(super) struct Internet {
    records: Arc<Mutex<Records>>,
    asked: Arc<Mutex<Vec<String>>>,
    issuer: Issuer<'static, KeyPair>,
    client: Client,
    tasks: TaskTracker,
    /// All addresses begin so, other ones in every test.
    prefix: [u8; 3],
}

/// Who answered a request, and what it looked like there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Who.
    pub(super) from: String,
    /// The `Host` header.
    pub(super) host: String,
    /// The name that TLS asked for.
    pub(super) sni: String,
}

/// A server.
#[derive(Clone, Debug)]
pub(super) struct Site {
    /// What it calls itself.
    pub(super) name: &'static str,
    /// Whom its certificate is for.
    pub(super) certificate: String,
    /// What its well-known file says, if it has one.
    pub(super) delegates: Option<String>,
}

impl Internet {
    pub(super) async fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(root.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tls = Arc::new(tls);
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let dns = Dns::at(socket.local_addr().unwrap());
        let (records, asked) = (Arc::default(), Arc::default());
        let tasks = TaskTracker::new();
        tasks.spawn(answer(socket, Arc::clone(&records), Arc::clone(&asked)));
        let identity = Identity {
            server_name: ServerName::parse("us.test").unwrap(),
            key: ServerKey::from_seed(&[1; 32]),
        };
        let web = Connector::new(Purpose::Web, Reach::Anywhere, dns.clone(), Arc::clone(&tls));
        let matrix = Connector::new(Purpose::Federation, Reach::Anywhere, dns, tls);
        let [a, b, ..] = rand::random::<[u8; 4]>();
        Self {
            records,
            asked,
            issuer: Issuer::new(params, key),
            client: Client::over(Arc::new(identity), web.with_port(WEB), matrix),
            tasks,
            prefix: [127, a | 1, b],
        }
    }

    /// An address of this machine.
    pub(super) fn address(&self, number: u8) -> Ipv4Addr {
        let [a, b, c] = self.prefix;
        Ipv4Addr::new(a, b, c, number)
    }

    fn record(&self, name: &str, kind: RecordType, data: RData) {
        let mut records = self.records.lock().unwrap();
        records
            .entry((name.to_owned(), kind))
            .or_default()
            .push(data);
    }

    /// Gives a name an address.
    pub(super) fn host(&self, name: &str, number: u8) {
        let address = RData::A(A(self.address(number)));
        self.record(name, RecordType::A, address);
    }

    /// Makes a name another one for a host.
    pub(super) fn alias(&self, name: &str, target: &str) {
        let target = RData::CNAME(CNAME(Name::from_ascii(target).unwrap()));
        self.record(name, RecordType::CNAME, target);
    }

    /// Adds a record of a service.
    pub(super) fn service(&self, name: &str, priority: u16, (target, port): (&str, u16)) {
        let target = Name::from_ascii(format!("{target}.")).unwrap();
        self.record(
            name,
            RecordType::SRV,
            RData::SRV(SRV::new(priority, 0, port, target)),
        );
    }

    /// Starts a server at a port, or at any; returns the port.
    pub(super) async fn serve(&self, number: u8, port: u16, site: Site) -> u16 {
        let at = SocketAddr::new(self.address(number).into(), port);
        self.serve_at(at, site).await
    }

    pub(super) async fn serve_at(&self, at: SocketAddr, site: Site) -> u16 {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([site.certificate.clone()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let listener = TcpListener::bind(at).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        self.tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Who asks may not like the certificate.
                let _ = respond(&acceptor, stream, &site).await;
            }
        });
        port
    }

    /// Asks a server for its version; says who answered.
    pub(super) async fn ask(&self, server: &str) -> Result<Answer, RequestError> {
        let server = ServerName::parse(server).unwrap();
        let request = get_server_version::Request::new();
        let answer = self.client.ask(&server, request, Bounds::SMALL).await?;
        let answer = answer.server.unwrap();
        let version = answer.version.unwrap();
        let (host, sni) = version.split_once(' ').unwrap();
        Ok(Answer {
            from: answer.name.unwrap(),
            host: host.to_owned(),
            sni: sni.to_owned(),
        })
    }

    /// Whether the DNS was asked for records of a name.
    pub(super) fn was_asked(&self, kind: RecordType, name: &str) -> bool {
        let asked = self.asked.lock().unwrap();
        asked.contains(&format!("{kind} {name}"))
    }

    /// How many questions the DNS was asked.
    pub(super) fn questions(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

impl Site {
    /// A server with a certificate for a name or an address.
    pub(super) fn new(name: &'static str, certificate: &str) -> Self {
        Self {
            name,
            certificate: certificate.to_owned(),
            delegates: None,
        }
    }

    /// A web server whose well-known file names a Matrix server.
    pub(super) fn delegating(host: &str, server: &str) -> Self {
        Self {
            name: "web",
            certificate: host.to_owned(),
            delegates: Some(server.to_owned()),
        }
    }
}

/// Answers one request.
async fn respond(acceptor: &TlsAcceptor, stream: TcpStream, site: &Site) -> std::io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let sni = stream.get_ref().1.server_name();
    let sni = sni.unwrap_or_default().to_owned();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let host = head.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.unwrap_or_default();
    let body = if head.starts_with("get /.well-known/matrix/server ") {
        site.delegates
            .as_ref()
            .map(|server| serde_json::json!({ "m.server": server }))
    } else {
        let version = format!("{host} {sni}");
        Some(serde_json::json!({ "server": { "name": site.name, "version": version } }))
    };
    let status = if body.is_some() {
        "200 OK"
    } else {
        "404 Not Found"
    };
    let body = body.unwrap_or_default().to_string();
    let length = body.len();
    let answer =
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// The name server.
async fn answer(socket: UdpSocket, records: Arc<Mutex<Records>>, asked: Arc<Mutex<Vec<String>>>) {
    let mut buffer = [0; 1_500];
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        let question = Message::from_vec(&buffer[..length]).unwrap();
        let reply = reply(&question, &records, &asked);
        socket
            .send_to(&reply.to_vec().unwrap(), from)
            .await
            .unwrap();
    }
}

fn reply(question: &Message, records: &Mutex<Records>, asked: &Mutex<Vec<String>>) -> Message {
    let mut reply = Message::response(question.metadata.id, OpCode::Query);
    reply.metadata.recursion_available = true;
    let query = question.queries[0].clone();
    let mut name = query.name.to_ascii().trim_end_matches('.').to_owned();
    let kind = query.query_type;
    asked.lock().unwrap().push(format!("{kind} {name}"));
    let records = records.lock().unwrap();
    let find = |name: &str, kind| {
        let data = records.get(&(name.to_owned(), kind)).cloned();
        data.unwrap_or_default()
    };
    for data in find(&name, RecordType::CNAME) {
        let owner = Name::from_ascii(format!("{name}.")).unwrap();
        if let RData::CNAME(target) = &data {
            name = target.0.to_ascii().trim_end_matches('.').to_owned();
        }
        reply.add_answer(Record::from_rdata(owner, 60, data));
    }
    for data in find(&name, kind) {
        let owner = Name::from_ascii(format!("{name}.")).unwrap();
        reply.add_answer(Record::from_rdata(owner, 60, data));
    }
    if records.keys().all(|(known, _)| *known != name) {
        reply.metadata.response_code = ResponseCode::NXDomain;
    }
    reply.add_query(query);
    reply
}

/// The loopback address of IPv6.
pub(super) fn loopback_v6() -> IpAddr {
    IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])
}
