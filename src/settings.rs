//! The configuration: from the file and the environment, and whether the machine agrees with it.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use hearth_core::config::{Config, Problems, Sources};

use crate::{http::tls::Certificate, log};

/// The file that is read when none is named, if it exists.
pub const DEFAULT_FILE: &str = "hearth.toml";

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read {file}: {source}", file = .file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There are mistakes in it.
    #[error("{report}", report = .problems.report(.file.as_deref()).trim_end())]
    Problems {
        /// The file, if there is one.
        file: Option<PathBuf>,
        /// The mistakes.
        problems: Problems,
    },
}

/// Reads the configuration, from `file` or else [`DEFAULT_FILE`] or else nothing, and from the
/// environment.
///
/// # Errors
///
/// All mistakes that can be found without starting anything.
pub fn read(file: Option<&Path>) -> Result<Config, SettingsError> {
    let default = Path::new(DEFAULT_FILE);
    let file = file.or_else(|| default.exists().then_some(default));
    let text = match file {
        None => String::new(),
        Some(file) => fs::read_to_string(file).map_err(|source| SettingsError::File {
            file: file.to_owned(),
            source,
        })?,
    };
    // Names and values that are not Unicode cannot be settings.
    let variables: Vec<(String, String)> = env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let sources = Sources {
        text: &text,
        variables: &variables,
        read_secret: &|path| fs::read_to_string(path),
        examine: &examine,
    };
    Config::load(sources).map_err(|problems| SettingsError::Problems {
        file: file.map(Path::to_owned),
        problems,
    })
}

/// Looks whether the files exist that a configuration names, and are what they should be.
fn examine(config: &Config) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    let mut refuse = |key: &str, reason: String| problems.push((key.to_owned(), reason));
    if let Err(error) = log::filter(&config.log) {
        refuse("log.level", error.to_string());
    }
    for (index, listener) in config.listen.iter().enumerate() {
        if let Some(tls) = &listener.tls
            && let Err(error) = Certificate::read(tls.clone())
        {
            refuse(&format!("listen.{index}.tls"), error.to_string());
        }
    }
    let registrations = config.appservices.iter().enumerate();
    let files = registrations
        .map(|(index, appservice)| {
            let key = format!("appservices.{index}.registration");
            (key, &appservice.registration)
        })
        .chain(
            config
                .federation
                .ca_file
                .iter()
                .map(|file| ("federation.ca_file".to_owned(), file)),
        )
        .chain(
            config
                .push
                .ca_file
                .iter()
                .map(|file| ("push.ca_file".to_owned(), file)),
        );
    for (key, file) in files {
        if let Err(error) = fs::File::open(file) {
            refuse(&key, format!("cannot read {}: {error}", file.display()));
        }
    }
    if config.data_dir.exists() && !config.data_dir.is_dir() {
        let reason = format!("{} is not a folder", config.data_dir.display());
        refuse("data_dir", reason);
    }
    problems
}
