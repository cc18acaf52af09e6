//! What the requests of one session say together.

use serde_json::{Map, Value};

use super::Granted;
use crate::{accounts::NewPassword, password::MAX_PASSWORD};

/// Where requests have a password that is to be set, and under which name its hash is remembered.
///
/// The second name has a character in it that keeps it apart from what clients send.
const PASSWORDS: [(&str, &str); 2] = [
    ("password", "password (hashed)"),
    ("new_password", "new_password (hashed)"),
];

/// The longest body that is remembered; clients repeat the rest anyway.
const MAX_BODY: usize = 16 * 1024;

/// A body to be remembered, and passwords that have to be hashed first.
pub(super) struct Remembered {
    pub(super) body: Map<String, Value>,
    /// By the name under which the hash is remembered.
    pub(super) passwords: Vec<(String, String)>,
}

impl Remembered {
    pub(super) fn of(mut body: Map<String, Value>) -> Self {
        // A token is not written down as it is; clients repeat it.
        body.remove("guest_access_token");
        let mut passwords = Vec::new();
        for (key, hashed) in PASSWORDS {
            body.remove(hashed);
            if let Some(Value::String(password)) = body.remove(key)
                && password.len() <= MAX_PASSWORD
                && !password.is_empty()
            {
                passwords.push((hashed.to_owned(), password));
            }
        }
        if Value::Object(body.clone()).to_string().len() > MAX_BODY {
            body.clear();
        }
        Self { body, passwords }
    }
}

/// What the last request says on top of what the first one said.
pub(super) fn merge(
    remembered: &str,
    body: Map<String, Value>,
    registration_token: Option<String>,
) -> Granted {
    let mut merged: Map<String, Value> = serde_json::from_str(remembered).unwrap_or_default();
    let hashes = PASSWORDS.map(|(key, hashed)| (key, merged.remove(hashed)));
    merged.extend(body);
    for (_, hashed) in PASSWORDS {
        merged.remove(hashed);
    }
    let mut new_password = None;
    for (key, hash) in hashes {
        let given = match (merged.get(key), hash) {
            (Some(Value::String(password)), _) => NewPassword::Plain(password.clone()),
            // Of the wrong type: whoever reads the body says so.
            (Some(_), _) | (None, None) => continue,
            (None, Some(hash)) => NewPassword::Hashed(hash.as_str().unwrap_or_default().to_owned()),
        };
        merged.insert(key.to_owned(), Value::String(String::new()));
        new_password = Some(given);
    }
    Granted {
        body: merged,
        new_password,
        registration_token,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: &Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn passwords_are_not_remembered_as_they_are() {
        let body = json!({ "username": "alice", "password": "secret" });

        let remembered = Remembered::of(object(&body));

        assert_eq!(
            Value::Object(remembered.body),
            json!({ "username": "alice" })
        );
        assert_eq!(remembered.passwords.len(), 1);
    }

    #[test]
    fn a_later_request_need_not_repeat_the_first() {
        let remembered = json!({ "username": "alice", "password (hashed)": "$argon2id$x" });

        let granted = merge(&remembered.to_string(), Map::new(), None);

        assert_eq!(granted.body["username"], "alice");
        assert!(matches!(granted.new_password, Some(NewPassword::Hashed(h)) if h == "$argon2id$x"));
    }

    #[test]
    fn what_a_later_request_says_counts() {
        let remembered = json!({ "username": "alice", "password (hashed)": "$argon2id$x" });
        let body = json!({ "username": "alicia", "password": "secret" });

        let granted = merge(&remembered.to_string(), object(&body), None);

        assert_eq!(granted.body["username"], "alicia");
        assert_eq!(granted.body["password"], "");
        assert!(matches!(granted.new_password, Some(NewPassword::Plain(p)) if p == "secret"));
    }

    #[test]
    fn nobody_can_send_a_hash() {
        let body = json!({ "password (hashed)": "$argon2id$mine" });

        assert!(Remembered::of(object(&body)).body.is_empty());
        assert!(merge("{}", object(&body), None).new_password.is_none());
    }
}
