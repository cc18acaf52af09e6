//! What can be wrong with a configuration, and where.

use std::{fmt, path::Path};

/// Where a problem lies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A line of the file, counted from one.
    Line(usize),
    /// An environment variable.
    Variable(String),
    /// Something that is not written anywhere, such as a missing key or a default.
    Nowhere,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where it is written.
    pub place: Place,
    /// The key, such as `limits.login`; empty for errors of syntax.
    pub key: String,
    /// What is wrong, for a person to read.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Line(line) => write!(f, "line {line}: ")?,
            Place::Variable(name) => write!(f, "{name}: ")?,
            Place::Nowhere => {}
        }
        match self.key.as_str() {
            "" => f.write_str(&self.reason),
            key => write!(f, "{key}: {}", self.reason),
        }
    }
}

/// All that is wrong with a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Adds a problem that has no line of its own.
    pub fn push(&mut self, key: &str, reason: String) {
        self.add(Problem {
            place: Place::Nowhere,
            key: key.to_owned(),
            reason,
        });
    }

    /// Adds a problem.
    pub(super) fn add(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    /// Nothing when there is no problem, else all of them in the order of the file.
    pub fn into_result(mut self) -> Result<(), Self> {
        self.0.sort();
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }

    /// The problems.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    /// One line per problem; those of the file begin with `file` and the line.
    #[must_use]
    pub fn report(&self, file: Option<&Path>) -> String {
        let line = |problem: &Problem| match (file, &problem.place) {
            (Some(file), Place::Line(_)) => format!("{}, {problem}\n", file.display()),
            (Some(_) | None, Place::Line(_) | Place::Variable(_) | Place::Nowhere) => {
                format!("{problem}\n")
            }
        };
        self.iter().map(line).collect()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.report(None).trim_end())
    }
}

impl std::error::Error for Problems {}
