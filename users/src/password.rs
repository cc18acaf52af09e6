//! Hashing passwords, off the asynchronous threads.

use std::{num::NonZero, sync::Arc, thread};

use argon2::{
    Argon2,
    password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash},
};
use tokio::{sync::Semaphore, task};

/// A hash like any other, of no password: what is compared with when there is no account.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// The longest password in bytes; longer ones only cost time.
pub const MAX_PASSWORD: usize = 512;

/// Whether a password fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Fit {
    /// It does.
    Yes,
    /// It does not, or there is no password that would.
    No,
}

/// Hashing failed.
#[derive(Debug, thiserror::Error)]
#[error("hashing a password failed")]
pub struct HashError(#[source] Option<argon2::password_hash::Error>);

/// Hashes and checks passwords, as many at a time as there are processors.
#[derive(Clone, Debug)]
pub struct Passwords(Arc<Semaphore>);

impl Default for Passwords {
    fn default() -> Self {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        Self(Arc::new(Semaphore::new(processors)))
    }
}

impl Passwords {
    /// The hash of `password` as a PHC string: Argon2id with the parameters that OWASP recommends.
    ///
    /// # Errors
    ///
    /// [`HashError`] when there is no randomness or the process is about to end.
    pub async fn hash(&self, password: String) -> Result<String, HashError> {
        self.run(move || {
            let hash: PasswordHash = Argon2::default()
                .hash_password(password.as_bytes())
                .map_err(|error| HashError(Some(error)))?;
            Ok(hash.to_string())
        })
        .await
    }

    /// Whether `password` is the one that `hash` was made of.
    ///
    /// It takes as long when there is no hash, so that the time does not tell who has an account.
    ///
    /// # Errors
    ///
    /// [`HashError`] when the process is about to end.
    pub async fn check(&self, password: String, hash: Option<String>) -> Result<Fit, HashError> {
        self.run(move || {
            let exists = hash.is_some();
            let hash = hash.as_deref().unwrap_or(NOBODY);
            let hash = PasswordHash::new(hash).map_err(|_| HashError(None))?;
            let fits = Argon2::default().verify_password(password.as_bytes(), &hash);
            Ok(if fits.is_ok() && exists {
                Fit::Yes
            } else {
                Fit::No
            })
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, HashError> + Send + 'static,
    ) -> Result<T, HashError> {
        let permit = self.0.clone().acquire_owned().await;
        let permit = permit.map_err(|_| HashError(None))?;
        task::spawn_blocking(move || {
            let _permit = permit;
            work()
        })
        .await
        .unwrap_or(Err(HashError(None)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_fits_its_hash_only() {
        let passwords = Passwords::default();
        let hash = passwords.hash("übers3kr1t".to_owned()).await.unwrap();

        assert!(hash.starts_with("$argon2id$"));
        let right = passwords.check("übers3kr1t".to_owned(), Some(hash.clone()));
        assert_eq!(right.await.unwrap(), Fit::Yes);
        let wrong = passwords.check("ubers3kr1t".to_owned(), Some(hash));
        assert_eq!(wrong.await.unwrap(), Fit::No);
    }

    #[tokio::test]
    async fn nothing_fits_where_there_is_no_account() {
        let fit = Passwords::default().check(String::new(), None).await;

        assert_eq!(fit.unwrap(), Fit::No);
    }

    #[test]
    fn the_hash_of_nobody_costs_as_much_as_any_other() {
        let hash: PasswordHash = Argon2::default().hash_password(b"x").unwrap();
        let nobody = PasswordHash::new(NOBODY).unwrap();

        assert_eq!(hash.params.to_string(), nobody.params.to_string());
        assert_eq!(hash.to_string().len(), NOBODY.len());
    }
}
