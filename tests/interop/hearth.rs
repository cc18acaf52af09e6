//! How a Hearth is set up.

use std::{path::Path, process::Command};

use super::homeserver::{Plan, new_database};

/// Writes the configuration and makes the database.
pub(crate) async fn prepare(plan: &Plan) {
    let Plan {
        name,
        folder,
        client_port,
        peer_port,
        ..
    } = plan;
    let database = new_database(folder).await;
    let config = format!(
        r#"
server_name = "{name}"
data_dir = "{folder}/data"
[[listen]]
bind = "127.0.0.1:{client_port}"
[[listen]]
bind = "127.0.0.1:{peer_port}"
tls = {{ cert = "{certificate}", key = "{key}" }}
[database]
url = "{database}"
[registration]
enabled = true
[federation]
ca_file = "{authority}"
allow_private_addresses = true
[limits]
rate_limit = false
"#,
        folder = folder.display(),
        certificate = plan.certificate.chain.display(),
        key = plan.certificate.key.display(),
        authority = plan.authority.display(),
    );
    std::fs::write(folder.join("hearth.toml"), config).unwrap();
}

/// The command that runs it.
pub(crate) fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hearth"));
    command
        .args(["serve", "--config"])
        .arg(folder.join("hearth.toml"));
    command
}
