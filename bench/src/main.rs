//! Drives Matrix homeservers and measures what they do.
//!
//! It knows nothing of Hearth: a server is a URL, everything is done through the client API.

mod client;
mod connection;
mod database;
mod error;
mod floor;
mod machine;
mod measure;
mod process;
mod report;
mod scan;
mod scenario;
mod stage;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fs, net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand, ValueEnum as _};
use tokio::{net::TcpListener, runtime};

use crate::{
    connection::Target,
    error::BenchError,
    measure::Run,
    process::Watched,
    scenario::{Bench, Scenario, Sizes},
    stage::Stage,
};

/// A load generator for Matrix homeservers.
#[derive(Debug, Parser)]
#[command(name = "bench", version, about, long_about = None)]
struct Cli {
    /// Threads of this process.
    #[arg(long, global = true, default_value_t = 1)]
    threads: usize,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Load a server and print what it did.
    Run(Box<Load>),
    /// Be a server that answers from memory, checks nothing and keeps nothing.
    Floor {
        /// Where to listen.
        #[arg(long, default_value = "127.0.0.1:8009")]
        listen: SocketAddr,
    },
    /// Compare runs in a page of Markdown.
    Report {
        /// What `run --json` wrote; the first is what the others are compared with.
        #[arg(required = true)]
        runs: Vec<PathBuf>,
        /// Where to write the page; standard output when absent.
        #[arg(long)]
        output: Option<PathBuf>,
    },
}

#[derive(Args, Debug)]
struct Load {
    /// The server, `http://127.0.0.1:8008`.
    #[arg(long)]
    url: String,
    /// What to call the server.
    #[arg(long, default_value = "server")]
    name: String,
    /// What to measure, one or more; everything when absent.
    #[arg(long = "scenario", value_delimiter = ',')]
    scenarios: Vec<Scenario>,
    /// The secret of /_synapse/admin/v1/register, where registration is closed.
    #[arg(long)]
    shared_secret: Option<String>,
    /// A process to watch with all that it started, `server=123`; any number.
    #[arg(long = "pid", value_name = "NAME=PID")]
    watched: Vec<Watched>,
    /// The database of the server, for `psql`, to see how much it grows.
    #[arg(long)]
    database_url: Option<String>,
    /// Where to write the result as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Something that a reader should know, `version=1.2`; any number.
    #[arg(long = "note", value_name = "KEY=VALUE")]
    notes: Vec<String>,
    #[command(flatten)]
    sizes: Sizes,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match start(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {}", measure::describe(&error));
            ExitCode::FAILURE
        }
    }
}

fn start(cli: Cli) -> Result<(), BenchError> {
    let runtime = if cli.threads == 1 {
        // Cheaper by what threads cost that hand work to each other.
        runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
    } else {
        runtime::Builder::new_multi_thread()
            .worker_threads(cli.threads)
            .enable_all()
            .build()?
    };
    machine::allow_many_files();
    match cli.command {
        Command::Run(load) => runtime.block_on(load.run()),
        Command::Floor { listen } => runtime.block_on(async {
            let listener = TcpListener::bind(listen).await?;
            println!("listening on http://{}", listener.local_addr()?);
            floor::serve(listener).await
        }),
        Command::Report { runs, output } => {
            let runs: Result<Vec<Run>, BenchError> = runs
                .iter()
                .map(|path| Ok(serde_json::from_slice(&fs::read(path)?)?))
                .collect();
            let page = report::page(&runs?);
            match output {
                Some(path) => fs::write(path, page)?,
                None => print!("{page}"),
            }
            Ok(())
        }
    }
}

impl Load {
    async fn run(self) -> Result<(), BenchError> {
        let stage = Stage::new(Target::parse(&self.url)?, self.shared_secret.as_deref());
        let mut bench = Bench {
            stage,
            sizes: self.sizes,
            watched: self.watched,
            database: self.database_url,
        };
        let mut run = Run {
            server: self.name,
            notes: notes(&self.notes),
            machine: machine::describe(),
            outcomes: Vec::new(),
        };
        let scenarios = if self.scenarios.is_empty() {
            Scenario::value_variants().to_vec()
        } else {
            self.scenarios
        };
        println!("{}", report::head());
        for scenario in scenarios {
            match bench.play(scenario).await {
                Ok(outcomes) => {
                    for outcome in outcomes {
                        println!("{}", report::line(&outcome));
                        run.outcomes.push(outcome);
                    }
                }
                // The others may succeed.
                Err(error) => eprintln!("{scenario:?} failed: {}", measure::describe(&error)),
            }
            if let Some(path) = &self.json {
                fs::write(path, serde_json::to_string_pretty(&run)?)?;
            }
        }
        Ok(())
    }
}

fn notes(notes: &[String]) -> BTreeMap<String, String> {
    let pairs = notes.iter().filter_map(|note| note.split_once('='));
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}
