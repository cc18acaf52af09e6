//! Which names users may have.

use ruma::{OwnedUserId, ServerName, UserId};

/// A name that no user may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a user name has the characters a-z 0-9 . _ = - / + and is not too long")]
pub struct InvalidUsername;

/// The user id that somebody gets who asks for `username` on `server`.
///
/// Capital letters become small ones; whatever else is not in the grammar of new user ids (appendix "User
/// identifiers") is refused. A leading underscore is for application services.
///
/// # Errors
///
/// [`InvalidUsername`] when no user can have the name.
pub fn user_id(username: &str, server: &ServerName) -> Result<OwnedUserId, InvalidUsername> {
    let localpart = username.to_ascii_lowercase();
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._=-/+".contains(c);
    if localpart.is_empty() || !localpart.chars().all(allowed) {
        return Err(InvalidUsername);
    }
    UserId::parse(format!("@{localpart}:{server}")).map_err(|_| InvalidUsername)
}

/// The localpart that `name`, a user id or the localpart itself, stands for on `server`.
///
/// `None` when it is a user of another server.
#[must_use]
pub fn localpart(name: &str, server: &ServerName) -> Option<String> {
    let localpart = match name.strip_prefix('@') {
        None => name,
        Some(rest) => {
            let (localpart, host) = rest.split_once(':')?;
            (host == server).then_some(localpart)?
        }
    };
    Some(localpart.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    #[test]
    fn capital_letters_become_small() {
        let id = user_id("user-UPPER", server_name!("example.org"));

        assert_eq!(id.unwrap(), "@user-upper:example.org");
    }

    #[test]
    fn the_whole_grammar_is_allowed() {
        for name in ["q", "3", ".", "_x", "=", "-", "/", "+", "a.b_c=d-e/f+0"] {
            assert!(user_id(name, server_name!("example.org")).is_ok(), "{name}");
        }
    }

    #[test]
    fn what_is_outside_of_the_grammar_is_refused() {
        for name in [
            "", "a!b", "a\"b", "a:b", "a\\b", "@a", "a[", "é", "a\nb", "a b", "a,b", "a#",
        ] {
            assert_eq!(
                user_id(name, server_name!("example.org")),
                Err(InvalidUsername),
                "{name}"
            );
        }
    }

    #[test]
    fn a_user_id_has_at_most_255_bytes() {
        let server = server_name!("example.org");

        assert!(user_id(&"a".repeat(255 - 13), server).is_ok());
        assert_eq!(user_id(&"a".repeat(256 - 13), server), Err(InvalidUsername));
    }

    #[test]
    fn users_log_in_by_localpart_or_whole_id() {
        let server = server_name!("example.org");

        assert_eq!(localpart("Alice", server).as_deref(), Some("alice"));
        assert_eq!(
            localpart("@ALICE:example.org", server).as_deref(),
            Some("alice")
        );
        assert_eq!(localpart("@alice:elsewhere.org", server), None);
    }
}
