//! Unmodified clients chat through the server.
//!
//! `scripts/clients` installs them; each program beside this test says on its output what it saw.

use std::path::Path;

use sqlx::PgPool;
use tokio::process::Command;

use super::process::{Hearth, PASSWORD};

/// Where `scripts/clients` puts the clients.
const INSTALLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/clients");

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn nio_chats(pool: PgPool) {
    chat(
        &pool,
        &format!("{INSTALLED}/nio/bin/python"),
        "matrix_nio.py",
    )
    .await;
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn js_sdk_chats(pool: PgPool) {
    chat(
        &pool,
        &format!("{INSTALLED}/js/node_modules/node/bin/node"),
        "matrix_js_sdk.mjs",
    )
    .await;
}

/// Runs a client program against a new server.
async fn chat(pool: &PgPool, interpreter: &str, program: &str) {
    assert!(
        Path::new(interpreter).exists(),
        "{interpreter} is missing: run scripts/clients"
    );
    let hearth = Hearth::start(pool).await;
    for user in ["alice", "bob"] {
        hearth.register(user).await;
    }
    let output = Command::new(interpreter)
        .arg(format!(
            "{}/tests/clients/{program}",
            env!("CARGO_MANIFEST_DIR")
        ))
        .args([&hearth.address(), PASSWORD])
        .env("HEARTH_CLIENTS", INSTALLED)
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} failed\n{text}\n{errors}"
    );
    assert!(
        text.trim_end().ends_with("done"),
        "{program} stopped early\n{text}\n{errors}"
    );
}
