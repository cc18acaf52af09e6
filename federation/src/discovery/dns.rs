//! Asking the DNS.

use std::{fmt, io, net::IpAddr, sync::Arc, time::Duration};

use hickory_resolver::{
    ResolverBuilder, TokioResolver,
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::{RData, RecordType, rdata::SRV},
};

/// How long one question may take at one name server, and how often it is put.
const TIMEOUT: Duration = Duration::from_secs(3);
const ATTEMPTS: usize = 2;

/// How many answers are kept.
const CACHED: u64 = 4_096;

/// How many addresses of one name are tried.
const MOST_ADDRESSES: usize = 8;

/// How many servers of one service are tried.
const MOST_SERVERS: usize = 4;

/// The services of a Matrix server, the better one first.
const SERVICES: [&str; 2] = ["_matrix-fed._tcp", "_matrix._tcp"];

/// The system's DNS resolver.
#[derive(Clone)]
pub struct Dns(Arc<Option<TokioResolver>>);

impl fmt::Debug for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dns").finish_non_exhaustive()
    }
}

/// A host and a port where a service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Dns {
    /// The name servers that the system is configured with. Without any, only names of this machine are found.
    #[must_use]
    pub fn of_system() -> Self {
        let resolver = TokioResolver::builder_tokio().and_then(build);
        if let Err(error) = &resolver {
            tracing::warn!("no name servers are known: {error}");
        }
        Self(Arc::new(resolver.ok()))
    }

    /// One name server, and nothing that this machine knows by itself.
    #[cfg(test)]
    pub(crate) fn at(server: std::net::SocketAddr) -> Self {
        use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};

        let mut connection = ConnectionConfig::udp();
        connection.port = server.port();
        let server = NameServerConfig::new(server.ip(), true, vec![connection]);
        let config = ResolverConfig::from_name_servers(vec![server]);
        let provider = TokioRuntimeProvider::default();
        let builder = TokioResolver::builder_with_config(config, provider);
        Self(Arc::new(Some(build(builder).unwrap())))
    }

    /// The addresses of a host.
    ///
    /// # Errors
    ///
    /// When there are none.
    pub async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let Some(resolver) = &*self.0 else {
            let found = tokio::net::lookup_host((host, 0)).await?;
            return Ok(found
                .map(|address| address.ip())
                .take(MOST_ADDRESSES)
                .collect());
        };
        let found = resolver.lookup_ip(host).await.map_err(io::Error::other)?;
        let addresses: Vec<IpAddr> = found.iter().take(MOST_ADDRESSES).collect();
        if addresses.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "the name has no address",
            ));
        }
        Ok(addresses)
    }

    /// Where the Matrix server of a host is, by its SRV records, in the order in which to try; empty without records.
    pub async fn matrix_service(&self, host: &str) -> Vec<Target> {
        let Some(resolver) = &*self.0 else {
            return Vec::new();
        };
        let ask = |service: &'static str| async move {
            // The dot at the end keeps search domains out.
            let name = format!("{service}.{}.", host.trim_end_matches('.'));
            match resolver.lookup(name, RecordType::SRV).await {
                Ok(found) => found
                    .answers()
                    .iter()
                    .filter_map(|record| {
                        if let RData::SRV(srv) = &record.data {
                            Some(srv.clone())
                        } else {
                            None
                        }
                    })
                    .collect(),
                Err(_) => Vec::new(),
            }
        };
        let [better, older] = SERVICES;
        let (better, older) = tokio::join!(ask(better), ask(older));
        let records = if better.is_empty() { older } else { better };
        order(records)
    }
}

fn build(mut builder: ResolverBuilder<TokioRuntimeProvider>) -> Result<TokioResolver, NetError> {
    let options = builder.options_mut();
    options.timeout = TIMEOUT;
    options.attempts = ATTEMPTS;
    options.cache_size = CACHED;
    builder.build()
}

/// Sorts SRV records by priority, and by chance according to their weights (RFC 2782).
fn order(mut records: Vec<SRV>) -> Vec<Target> {
    let chance = |weight: u16| {
        // Ordering by u^(1/w) draws in proportion to the weights.
        let drawn: f64 = rand::random::<f64>().max(f64::MIN_POSITIVE);
        drawn.ln() / (f64::from(weight) + 0.01)
    };
    records.retain(|srv| !srv.target.is_root());
    let mut drawn: Vec<(u16, f64, Target)> = records
        .into_iter()
        .map(|srv| {
            let host = srv.target.to_ascii().trim_end_matches('.').to_owned();
            let target = Target {
                host,
                port: srv.port,
            };
            (srv.priority, -chance(srv.weight), target)
        })
        .collect();
    drawn.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    drawn
        .into_iter()
        .take(MOST_SERVERS)
        .map(|(.., target)| target)
        .collect()
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::rr::Name;

    use super::*;

    fn srv(priority: u16, weight: u16, target: &str) -> SRV {
        SRV::new(priority, weight, 443, Name::from_ascii(target).unwrap())
    }

    #[test]
    fn servers_are_tried_in_the_order_of_their_priorities() {
        let targets = order(vec![
            srv(20, 0, "b.example."),
            srv(10, 5, "a.example."),
            srv(30, 9, "c.example."),
        ]);

        let hosts: Vec<&str> = targets.iter().map(|target| target.host.as_str()).collect();
        assert_eq!(hosts, ["a.example", "b.example", "c.example"]);
    }

    #[test]
    fn a_dot_means_that_there_is_no_such_service() {
        assert!(order(vec![srv(0, 0, ".")]).is_empty());
    }
}
