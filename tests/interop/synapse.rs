//! How a Synapse is set up; `scripts/synapse` installs it.

use std::{path::Path, process::Command};

use super::homeserver::{Database, Plan, new_database, run};

/// Its Python.
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/synapse/bin/python");

/// Writes the configuration and makes the signing key.
pub(crate) async fn prepare(plan: &Plan) {
    assert!(
        Path::new(PYTHON).exists(),
        "{PYTHON} is missing: run scripts/synapse"
    );
    let configuration = configuration(plan, &database(plan).await);
    std::fs::write(plan.folder.join("homeserver.yaml"), configuration).unwrap();
    std::fs::write(plan.folder.join("log.yaml"), LOGGING).unwrap();
    run(command(&plan.folder).arg("--generate-keys"));
}

/// The command that runs it.
pub(crate) fn command(folder: &Path) -> Command {
    let mut command = Command::new(PYTHON);
    command
        .args(["-m", "synapse.app.homeserver", "-c"])
        .arg(folder.join("homeserver.yaml"))
        .current_dir(folder);
    command
}

/// It tries again soon where it would wait for minutes; limits of rates are out of the way.
fn configuration(plan: &Plan, database: &str) -> String {
    let Plan {
        name,
        folder,
        client_port,
        peer_port,
        ..
    } = plan;
    format!(
        r#"
server_name: "{name}"
report_stats: false
signing_key_path: "{folder}/signing.key"
media_store_path: "{folder}/media"
pid_file: "{folder}/pid"
log_config: "{folder}/log.yaml"
macaroon_secret_key: interop
form_secret: interop
bcrypt_rounds: 4
enable_registration: true
enable_registration_without_verification: true
listeners:
  - {{ port: {client_port}, bind_addresses: ["127.0.0.1"], type: http, tls: false, resources: [{{ names: [client] }}] }}
  - {{ port: {peer_port}, bind_addresses: ["127.0.0.1"], type: http, tls: true, resources: [{{ names: [federation] }}] }}
tls_certificate_path: "{certificate}"
tls_private_key_path: "{key}"
federation_custom_ca_list: ["{authority}"]
ip_range_blacklist: []
trusted_key_servers: []
allow_public_rooms_over_federation: true
room_list_publication_rules: [{{ action: allow }}]
federation:
  destination_min_retry_interval: 500
  destination_retry_multiplier: 1
  destination_max_retry_interval: 1s
  max_long_retry_delay: 1s
  max_short_retry_delay: 1s
database: {database}
rc_message: &unlimited {{ per_second: 1000000, burst_count: 1000000 }}
rc_registration: *unlimited
rc_login: {{ address: *unlimited, account: *unlimited, failed_attempts: *unlimited }}
rc_joins: {{ local: *unlimited, remote: *unlimited }}
rc_joins_per_room: *unlimited
rc_invites: {{ per_room: *unlimited, per_user: *unlimited, per_issuer: *unlimited }}
rc_room_creation: *unlimited
rc_presence: {{ per_user: *unlimited }}
rc_federation: {{ window_size: 1000, sleep_limit: 100000, sleep_delay: 1, reject_limit: 100000, concurrent: 100 }}
"#,
        folder = folder.display(),
        certificate = plan.certificate.chain.display(),
        key = plan.certificate.key.display(),
        authority = plan.authority.display(),
    )
}

/// What the configuration says about the database.
async fn database(plan: &Plan) -> String {
    match plan.database {
        Database::Quick => {
            let file = plan.folder.join("homeserver.db");
            format!(
                r#"{{ name: sqlite3, args: {{ database: "{}" }} }}"#,
                file.display()
            )
        }
        Database::PostgreSql => {
            let url = new_database(&plan.folder).await;
            format!(r#"{{ name: psycopg2, args: {{ dsn: "{url}", cp_min: 5, cp_max: 10 }} }}"#)
        }
    }
}

const LOGGING: &str = r#"
version: 1
formatters: { plain: { format: "%(asctime)s %(levelname)s %(name)s %(request)s: %(message)s" } }
handlers: { file: { class: logging.StreamHandler, formatter: plain } }
root: { level: WARNING, handlers: [file] }
disable_existing_loggers: true
"#;
