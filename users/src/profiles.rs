//! What users tell about themselves (specification, "Profiles").

use std::collections::HashMap;

use hearth_core::UserNid;
use hearth_store::{account, profile};
use serde_json::{Map, Value};
use sqlx::PgPool;

use crate::user_directory;

/// The largest profile as one JSON object, in bytes.
const MAX_PROFILE: usize = 64 * 1024;

/// The field by which the user directory finds users.
const NAME: &str = "displayname";

/// The longest name of a field, in bytes.
const MAX_KEY: usize = 255;

/// The longest display name, in bytes.
const MAX_DISPLAY_NAME: usize = 256;

/// The longest address of an avatar, in bytes.
const MAX_AVATAR_URL: usize = 1000;

/// Why a field is not set or removed.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The name is not in the grammar.
    #[error("this is no name of a profile field")]
    InvalidKey,
    /// The name is too long.
    #[error("the name of a profile field has at most {MAX_KEY} bytes")]
    KeyTooLong,
    /// The field cannot have this value.
    #[error("this is no {0}")]
    InvalidValue(&'static str),
    /// The profile would be too large.
    #[error("a profile has at most {MAX_PROFILE} bytes")]
    TooLarge,
    /// There is no such account.
    #[error("there is no such account")]
    NoAccount,
    /// The database failed.
    #[error("changing a profile failed")]
    Storage(#[from] sqlx::Error),
}

/// What member events show of a profile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// The name.
    pub display_name: Option<String>,
    /// The avatar.
    pub avatar_url: Option<String>,
}

/// The profiles of this server's users.
///
/// What follows from a new name or avatar in the user's rooms and presence is for the caller to do.
#[derive(Clone, Debug)]
pub struct Profiles {
    pool: PgPool,
}

impl Profiles {
    /// Profiles in `pool`.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Returns all fields of `user`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn list(&self, user: UserNid) -> sqlx::Result<Map<String, Value>> {
        let mut conn = self.pool.acquire().await?;
        let fields = profile::list(&mut conn, user).await?;
        fields
            .into_iter()
            .map(|field| Ok((field.key, parse(&field.value)?)))
            .collect()
    }

    /// Returns what member events show of these users; of those without a name or an avatar, nothing.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn shown(&self, users: &[UserNid]) -> sqlx::Result<HashMap<UserNid, Shown>> {
        let mut conn = self.pool.acquire().await?;
        let rows = profile::list_shown(&mut conn, users).await?;
        let mut shown: HashMap<UserNid, Shown> = HashMap::new();
        for (user, key, value) in rows {
            let text = parse(&value)?.as_str().map(ToOwned::to_owned);
            let of_user = shown.entry(user).or_default();
            match key.as_str() {
                NAME => of_user.display_name = text,
                _ => of_user.avatar_url = text,
            }
        }
        Ok(shown)
    }

    /// Returns one field of `user`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn find(&self, user: UserNid, key: &str) -> sqlx::Result<Option<Value>> {
        let mut conn = self.pool.acquire().await?;
        let value = profile::find(&mut conn, user, key).await?;
        value.as_deref().map(parse).transpose()
    }

    /// Sets a field. `null` is a value for custom fields, and removes the name or the avatar.
    ///
    /// # Errors
    ///
    /// [`ProfileError::InvalidKey`], [`ProfileError::KeyTooLong`], [`ProfileError::InvalidValue`],
    /// [`ProfileError::TooLarge`].
    pub async fn set(&self, user: UserNid, key: &str, value: &Value) -> Result<(), ProfileError> {
        check_key(key)?;
        if is_removal(key, value) {
            return self.remove(user, key).await;
        }
        check_value(key, value)?;
        hearth_store::retry("set profile field", || self.set_once(user, key, value)).await
    }

    async fn set_once(&self, user: UserNid, key: &str, field: &Value) -> Result<(), ProfileError> {
        let value = field.to_string();
        let mut tx = self.pool.begin().await?;
        let user = account::lock(&mut tx, user).await?;
        let user = user.ok_or(ProfileError::NoAccount)?;
        let others = profile::find_size(&mut tx, user, key).await?;
        if others + key.len() + value.len() + 6 > MAX_PROFILE {
            return Err(ProfileError::TooLarge);
        }
        profile::upsert(&mut tx, user, key, &value).await?;
        if key == NAME {
            user_directory::index(&mut tx, user, field.as_str()).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Removes a field, if it is there.
    ///
    /// # Errors
    ///
    /// [`ProfileError::InvalidKey`], [`ProfileError::KeyTooLong`].
    pub async fn remove(&self, user: UserNid, key: &str) -> Result<(), ProfileError> {
        check_key(key)?;
        hearth_store::retry("remove profile field", || self.remove_once(user, key)).await
    }

    async fn remove_once(&self, user: UserNid, key: &str) -> Result<(), ProfileError> {
        let mut tx = self.pool.begin().await?;
        let found = account::lock(&mut tx, user).await?;
        profile::delete(&mut tx, user, key).await?;
        if key == NAME && found.is_some() {
            user_directory::index(&mut tx, user, None).await?;
        }
        tx.commit().await?;
        Ok(())
    }
}

/// Whether setting `key` to `value` removes it: the name and the avatar cannot be anything but strings, and clients
/// of old set them to nothing.
fn is_removal(key: &str, value: &Value) -> bool {
    match key {
        "displayname" => value.is_null(),
        "avatar_url" => value.is_null() || value == "",
        _ => false,
    }
}

/// Fields are named by the Common Namespaced Identifier Grammar, with at least one dot, or are `displayname` or
/// `avatar_url`.
fn check_key(key: &str) -> Result<(), ProfileError> {
    if key.len() > MAX_KEY {
        return Err(ProfileError::KeyTooLong);
    }
    if matches!(key, "displayname" | "avatar_url") {
        return Ok(());
    }
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.".contains(c);
    let fits = key.starts_with(|c: char| c.is_ascii_lowercase())
        && key.contains('.')
        && key.chars().all(allowed);
    if fits {
        Ok(())
    } else {
        Err(ProfileError::InvalidKey)
    }
}

fn check_value(key: &str, value: &Value) -> Result<(), ProfileError> {
    let text = value.as_str();
    match key {
        "displayname" if text.is_none_or(|name| name.len() > MAX_DISPLAY_NAME) => {
            Err(ProfileError::InvalidValue("display name"))
        }
        // Peers take any text here, and member events may hold any: readers have to look at it themselves.
        "avatar_url" if text.is_none_or(|uri| uri.len() > MAX_AVATAR_URL) => {
            Err(ProfileError::InvalidValue("content URI"))
        }
        "m.tz" if !text.is_some_and(is_time_zone) => Err(ProfileError::InvalidValue("time zone")),
        _ => Ok(()),
    }
}

/// Whether `name` looks like one of the IANA database; clients have to expect unknown ones.
fn is_time_zone(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-+/".contains(c);
    (1..=255).contains(&name.len()) && name.chars().all(allowed)
}

fn parse(value: &str) -> sqlx::Result<Value> {
    serde_json::from_str(value).map_err(|error| sqlx::Error::Decode(error.into()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_have_names_of_the_grammar() {
        for key in [
            "displayname",
            "avatar_url",
            "m.tz",
            "org.example.my_field",
            "a.b-c",
        ] {
            assert!(check_key(key).is_ok(), "{key}");
        }
        for key in ["", "name", "1.a", "A.b", "a.B", "a b.c", ".a", "é.a"] {
            assert!(
                matches!(check_key(key), Err(ProfileError::InvalidKey)),
                "{key}"
            );
        }
        let long = format!("a.{}", "b".repeat(254));
        assert!(matches!(check_key(&long), Err(ProfileError::KeyTooLong)));
    }

    #[test]
    fn known_fields_have_values_of_their_kind() {
        for (key, value, fits) in [
            ("displayname", json!("Alice"), true),
            ("displayname", json!(7), false),
            ("displayname", json!("x".repeat(257)), false),
            ("avatar_url", json!("mxc://example.org/abc"), true),
            ("avatar_url", json!(7), false),
            ("m.tz", json!("Europe/London"), true),
            ("m.tz", json!(["Europe"]), false),
            ("org.example.x", json!({ "any": null }), true),
        ] {
            assert_eq!(check_value(key, &value).is_ok(), fits, "{key} {value}");
        }
    }

    #[test]
    fn nothing_removes_a_name_but_is_a_value_elsewhere() {
        assert!(is_removal("displayname", &Value::Null));
        assert!(is_removal("avatar_url", &json!("")));
        assert!(!is_removal("displayname", &json!("")));
        assert!(!is_removal("org.example.x", &Value::Null));
    }
}
