//! Where the pages of a walk begin.

use std::{fmt, str::FromStr};

use super::{HierarchyError, HierarchyQuery, walk::LONGEST_WALK};

/// A page of a walk: `h1_<rooms before>_<max_depth or x>_<0 or 1>`.
///
/// It says how many rooms came before instead of naming something that the server would have to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// How many rooms the earlier pages had.
    pub skip: u64,
    /// How deep the walk goes.
    pub max_depth: Option<u64>,
    /// Whether only suggested rooms are of interest.
    pub suggested_only: bool,
}

impl Token {
    /// The page that a query asks for.
    pub(super) fn of(query: &HierarchyQuery) -> Result<Self, HierarchyError> {
        let first = Self {
            skip: 0,
            max_depth: query.max_depth,
            suggested_only: query.suggested_only,
        };
        let Some(from) = &query.from else {
            return Ok(first);
        };
        let token: Self = from.parse()?;
        if (Self { skip: 0, ..token }) == first {
            Ok(token)
        } else {
            Err(HierarchyError::OtherWalk)
        }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suggested = u8::from(self.suggested_only);
        match self.max_depth {
            Some(depth) => write!(f, "h1_{}_{depth}_{suggested}", self.skip),
            None => write!(f, "h1_{}_x_{suggested}", self.skip),
        }
    }
}

impl FromStr for Token {
    type Err = HierarchyError;

    fn from_str(token: &str) -> Result<Self, HierarchyError> {
        let parts: Vec<&str> = token.split('_').collect();
        let ["h1", skip, depth, suggested] = parts[..] else {
            return Err(HierarchyError::BadToken);
        };
        let number = |text: &str| text.parse::<u64>().map_err(|_| HierarchyError::BadToken);
        let skip = number(skip)?;
        if usize::try_from(skip).is_ok_and(|skip| skip > LONGEST_WALK) {
            return Err(HierarchyError::BadToken);
        }
        Ok(Self {
            skip,
            max_depth: match depth {
                "x" => None,
                depth => Some(number(depth)?),
            },
            suggested_only: match suggested {
                "0" => false,
                "1" => true,
                _ => return Err(HierarchyError::BadToken),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_the_wire() {
        for max_depth in [None, Some(3)] {
            let token = Token {
                skip: 50,
                max_depth,
                suggested_only: true,
            };
            assert_eq!(token.to_string().parse::<Token>().ok(), Some(token));
        }
    }

    #[test]
    fn rubbish_is_refused() {
        for rubbish in [
            "",
            "h1_1_x",
            "h1_1_x_2",
            "h1_99999_x_0",
            "h2_1_x_0",
            "h1_a_x_0",
        ] {
            assert!(rubbish.parse::<Token>().is_err(), "{rubbish}");
        }
    }
}
