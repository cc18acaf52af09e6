//! Reading: a TOML text, environment variables over it, secrets from files.

use std::{collections::BTreeSet, io, ops::Range, path::Path};

use serde::Deserialize as _;
use toml::{
    Spanned,
    de::{DeTable, DeValue, Deserializer},
};

use super::{
    Config, check,
    problem::{Place, Problem, Problems},
    tree::{find, insert, locate, remove, respan, table_at},
};

/// All variables that begin with this are settings; `HEARTH_DATABASE__URL` is `database.url`.
const PREFIX: &str = "HEARTH_";

/// The variable that names the file. It is no setting.
const CONFIG_VARIABLE: &str = "HEARTH_CONFIG";

/// Settings that can be read from the file that `<key>_file` names.
const SECRETS: [&[&str]; 9] = [
    &["database", "url"],
    &["database", "direct_url"],
    &["redis", "url"],
    &["registration", "shared_secret"],
    &["registration", "token"],
    &["voip", "turn_shared_secret"],
    &["email", "smtp"],
    &["media", "storage", "secret_key"],
    &["media", "storage", "access_key"],
];

/// What a configuration is made from.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// The TOML text.
    pub text: &'a str,
    /// Environment variables, in any order; those of other programs are passed over.
    pub variables: &'a [(String, String)],
    /// Reads a file in which a secret lies.
    pub read_secret: &'a dyn Fn(&Path) -> io::Result<String>,
    /// Looks at what only the machine knows, such as files that are named, and returns keys
    /// (`listen.0.tls`) and what is wrong with them.
    pub examine: &'a dyn Fn(&Config) -> Vec<(String, String)>,
}

impl std::fmt::Debug for Sources<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

/// A variable that overrides a setting.
struct Override<'a> {
    name: &'a str,
    value: &'a str,
    path: Vec<String>,
}

/// Reads and judges `sources`.
pub(super) fn load(sources: Sources<'_>) -> Result<Config, Problems> {
    let mut loader = Loader::parse(sources)?;
    loader.apply_overrides();
    loader.read_secrets(sources.read_secret);
    let whole = loader.table.clone();
    let config = loader.deserialize()?;
    loader.table = whole;
    check::check(&config, &mut loader);
    for (key, reason) in (sources.examine)(&config) {
        let path: Vec<&str> = key.split('.').collect();
        loader.refuse(&path, reason);
    }

    loader.problems.into_result()?;
    Ok(config)
}

/// The document in the making.
///
/// Values that come from variables bear spans behind the end of the text, one position for each
/// variable, so that an error says from which of them it came.
pub(super) struct Loader<'a> {
    text: &'a str,
    overrides: Vec<Override<'a>>,
    table: DeTable<'a>,
    problems: Problems,
    /// Top-level keys of which a part could not be read.
    broken: BTreeSet<String>,
    /// Tables out of which something was taken, so that it is not missed there.
    robbed: BTreeSet<Vec<String>>,
}

impl<'a> Loader<'a> {
    fn parse(sources: Sources<'a>) -> Result<Self, Problems> {
        let (table, errors) = DeTable::parse_recoverable(sources.text);
        let mut overrides: Vec<_> = sources
            .variables
            .iter()
            .filter(|(name, _)| name.starts_with(PREFIX) && name != CONFIG_VARIABLE)
            .map(|(name, value)| Override {
                name,
                value,
                path: name[PREFIX.len()..]
                    .split("__")
                    .map(str::to_ascii_lowercase)
                    .collect(),
            })
            .collect();
        overrides.sort_by(|a, b| a.path.cmp(&b.path));
        let mut loader = Self {
            text: sources.text,
            overrides,
            table: table.into_inner(),
            problems: Problems::default(),
            broken: BTreeSet::new(),
            robbed: BTreeSet::new(),
        };
        for error in errors {
            let place = error.span().map_or(Place::Nowhere, |s| loader.place(&s));
            let reason = error.message().to_owned();
            loader.problems.add(Problem {
                place,
                key: String::new(),
                reason,
            });
        }
        std::mem::take(&mut loader.problems).into_result()?;
        Ok(loader)
    }

    /// Reports that the value at `path` will not do, unless it was not read in the first place.
    pub(super) fn refuse(&mut self, path: &[&str], reason: impl Into<String>) {
        if path.first().is_some_and(|key| self.broken.contains(*key)) {
            return;
        }
        let place = locate(&self.table, path).map_or(Place::Nowhere, |span| self.place(&span));
        self.problems.add(Problem {
            place,
            key: path.join("."),
            reason: reason.into(),
        });
    }

    fn place(&self, span: &Range<usize>) -> Place {
        if let Some(variable) = self.override_at(span) {
            return Place::Variable(self.overrides[variable].name.to_owned());
        }
        let before = self.text.get(..span.start).unwrap_or(self.text);
        Place::Line(before.split('\n').count())
    }

    fn override_at(&self, span: &Range<usize>) -> Option<usize> {
        let index = span.start.checked_sub(self.text.len() + 1)?;
        (index < self.overrides.len()).then_some(index)
    }

    fn span_of(&self, index: usize) -> Range<usize> {
        let start = self.text.len() + 1 + index;
        start..start
    }

    fn apply_overrides(&mut self) {
        for index in 0..self.overrides.len() {
            let value = self.override_value(index);
            self.set_override(index, value);
        }
    }

    /// What a variable means: a TOML value, or else the string itself.
    fn override_value(&self, index: usize) -> DeValue<'a> {
        let Override { value, path, .. } = &self.overrides[index];
        let span = self.span_of(index);
        let is_listen = path.len() == 1 && path[0] == "listen";
        match DeValue::parse(value) {
            Ok(parsed) => respan(parsed.into_inner(), &span),
            Err(_) if is_listen => listeners(value, &span),
            Err(_) => DeValue::String((*value).into()),
        }
    }

    fn set_override(&mut self, index: usize, value: DeValue<'a>) {
        let span = self.span_of(index);
        let Override { name, path, .. } = &self.overrides[index];
        if insert(&mut self.table, path, value, &span).is_err() {
            self.problems.add(Problem {
                place: Place::Variable((*name).to_owned()),
                key: path.join("."),
                reason: "no such table".to_owned(),
            });
        }
    }

    /// Replaces `<key>_file` by what the file contains.
    fn read_secrets(&mut self, read: &dyn Fn(&Path) -> io::Result<String>) {
        for path in SECRETS {
            let (key, tables) = path.split_last().expect("a path has a last key");
            let file_key = format!("{key}_file");
            let mut file_path = tables.to_vec();
            file_path.push(&file_key);
            let has_both = locate(&self.table, path).is_some();
            let Some(table) = table_at(&mut self.table, tables) else {
                continue;
            };
            let Some((_, file)) = table.remove_entry(file_key.as_str()) else {
                continue;
            };
            let span = file.span();
            let content = match file.get_ref().as_str() {
                None => Err("the name of a file is expected".to_owned()),
                Some(_) if has_both => Err(format!("{key} is set as well")),
                Some(name) => {
                    read(Path::new(name)).map_err(|error| format!("cannot read {name}: {error}"))
                }
            };
            match content {
                Ok(content) => {
                    let value = DeValue::String(content.trim_end().to_owned().into());
                    table.insert(
                        Spanned::new(span.clone(), (*key).to_owned().into()),
                        Spanned::new(span, value),
                    );
                }
                Err(reason) => {
                    let place = self.place(&span);
                    self.broken.insert(tables[0].to_owned());
                    let tables = tables.iter().map(|table| (*table).to_owned());
                    self.robbed.insert(tables.collect());
                    self.problems.add(Problem {
                        place,
                        key: file_path.join("."),
                        reason,
                    });
                }
            }
        }
    }

    /// Reads the document; what cannot be read is reported, taken out, and tried without.
    fn deserialize(&mut self) -> Result<Config, Problems> {
        let mut as_text = BTreeSet::new();
        loop {
            let document = Spanned::new(0..0, self.table.clone());
            let error = match Config::deserialize(Deserializer::from(document)) {
                Ok(config) => return Ok(config),
                Err(error) => error,
            };
            let span = error.span().unwrap_or(0..0);
            if let Some(index) = self.override_at(&span)
                && as_text.insert(index)
            {
                // A secret or a name may look like a number or a truth value.
                let text = self.overrides[index].value.to_owned();
                let path = self.overrides[index].path.clone();
                if find(&self.table, &span).is_some_and(|found| found == path) {
                    self.set_override(index, DeValue::String(text.into()));
                    continue;
                }
            }
            let Some(path) = find(&self.table, &span) else {
                self.problems.push("", error.message().to_owned());
                return Err(std::mem::take(&mut self.problems));
            };
            let reason = error.message().replace("unknown field", "unknown key");
            let follows = reason.starts_with("missing field") && self.robbed.contains(&path);
            if !follows {
                self.broken.insert(path[0].clone());
                self.problems.add(Problem {
                    place: self.place(&span),
                    key: path.join("."),
                    reason: reason.replace("missing field", "missing key"),
                });
            }
            self.robbed.insert(path[..path.len() - 1].to_vec());
            remove(&mut self.table, &path);
        }
    }
}

/// The listeners of `HEARTH_LISTEN=0.0.0.0:8008,unix:/run/hearth.sock`.
fn listeners<'a>(value: &'a str, span: &Range<usize>) -> DeValue<'a> {
    let listener = |bind: &'a str| {
        let mut table = DeTable::new();
        table.insert(
            Spanned::new(span.clone(), "bind".into()),
            Spanned::new(span.clone(), DeValue::String(bind.trim().into())),
        );
        Spanned::new(span.clone(), DeValue::Table(table))
    };
    DeValue::Array(value.split(',').map(listener).collect())
}

#[cfg(test)]
mod tests;
