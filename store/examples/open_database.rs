//! Opens the database of a data folder and keeps it open until its standard input ends.
//!
//! `open_database DATA_DIR [SERVER_NAME]` prints `open` when it is ready. The tests run it as other
//! accounts and kill it; it is also a handy way to have the private `PostgreSQL` without Hearth.

use std::{error::Error, io, path::PathBuf, process::ExitCode};

use hearth_core::config;
use hearth_store::Database;
use ruma::{OwnedServerName, server_name};

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(error) = source {
                text.push_str(": ");
                text.push_str(&error.to_string());
                source = error.source();
            }
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let data_dir = PathBuf::from(arguments.next().ok_or("which data folder?")?);
    let server_name: OwnedServerName = match arguments.next() {
        Some(name) => name.to_string_lossy().parse()?,
        None => server_name!("example.org").to_owned(),
    };

    let config = config::Database::default();
    let database = Database::open(&config, &data_dir, &server_name).await?;
    println!("open");
    tokio::task::spawn_blocking(|| io::copy(&mut io::stdin(), &mut io::sink())).await??;
    database.close().await;
    Ok(())
}
