//! The signing key in the data folder.

use std::{io, path::Path};

use hearth_core::{
    Identity,
    config::Config,
    signing::{BadKey, ServerKey},
};

/// The file in the data folder that holds the signing key.
const KEY_FILE: &str = "signing.key";

/// Why there is no signing key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("{KEY_FILE} cannot be read or written")]
    File(#[from] io::Error),
    /// The file holds something else.
    #[error("{KEY_FILE} is not a signing key")]
    Malformed(#[from] BadKey),
}

/// Who this server is; makes its signing key on the first start.
///
/// # Errors
///
/// When the key's file cannot be read, written or understood.
pub async fn load(config: &Config) -> Result<Identity, KeyError> {
    Ok(Identity {
        server_name: config.server_name.clone(),
        key: signing_key(&config.data_dir).await?,
    })
}

/// Reads the signing key, or makes one on the first start.
async fn signing_key(data_dir: &Path) -> Result<ServerKey, KeyError> {
    let file = data_dir.join(KEY_FILE);
    match tokio::fs::read_to_string(&file).await {
        // Synapse's file may hold more keys; the first one signs.
        Ok(text) => Ok(ServerKey::parse(
            text.trim_start().lines().next().unwrap_or_default(),
        )?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = ServerKey::from_seed(&rand::random());
            write_secret(&file, key.to_line() + "\n").await?;
            Ok(key)
        }
        Err(error) => Err(error.into()),
    }
}

/// Writes a file that only its owner may read, whole or not at all.
async fn write_secret(file: &Path, text: String) -> io::Result<()> {
    use tokio::io::AsyncWriteExt as _;

    let draft = file.with_extension("new");
    let mut options = tokio::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut open = options.open(&draft).await?;
    open.write_all(text.as_bytes()).await?;
    open.sync_all().await?;
    tokio::fs::rename(&draft, file).await
}
