//! Credentials for TURN servers (`draft-uberti-behave-turn-rest-00`).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use ruma::UserId;
use sha1::Sha1;

/// A name and a password that a TURN server with the same secret accepts until they expire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// When they expire, in seconds since the epoch, and who got them.
    pub username: String,
    /// HMAC-SHA1 of the name.
    pub password: String,
}

/// Credentials for `user` until `expires_at`, in seconds since the epoch.
///
/// # Panics
///
/// Never: HMAC takes keys of any length.
#[must_use]
pub fn credentials(secret: &str, user: &UserId, expires_at: i64) -> Credentials {
    let username = format!("{expires_at}:{user}");
    let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).expect("any length will do");
    mac.update(username.as_bytes());
    let password = STANDARD.encode(mac.finalize().into_bytes());
    Credentials { username, password }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;

    #[test]
    fn a_turn_server_can_check_the_credentials() {
        let credentials = credentials(
            "n0t4ctuAllymatr1Xd0TorgSshar3d5ecret4obvIousreAsons",
            user_id!("@alice:example.org"),
            1_700_000_000,
        );

        assert_eq!(credentials.username, "1700000000:@alice:example.org");
        assert_eq!(credentials.password, "Q3QFGwAasTAzWYffazEl6DtxxBg=");
    }
}
