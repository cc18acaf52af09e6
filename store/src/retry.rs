//! Transactions that lose to others, and a database that is away.

use std::{borrow::Cow, error::Error};

use sqlx::error::DatabaseError;

/// How often [`retry`] starts over before it gives up.
const MAX_ATTEMPTS: u32 = 5;

/// Runs `transaction`, and again while it loses to a concurrent one.
///
/// `transaction` must not do anything that it cannot repeat. `name` labels the log lines.
pub async fn retry<T, E, F>(name: &'static str, transaction: impl Fn() -> F) -> Result<T, E>
where
    E: Error + 'static,
    F: Future<Output = Result<T, E>>,
{
    let mut attempt = 1;
    loop {
        match transaction().await {
            Err(error) if attempt < MAX_ATTEMPTS && is_conflict(&error) => {
                tracing::debug!(name, attempt, "transaction conflict, starting over");
                attempt += 1;
            }
            result => return result,
        }
    }
}

/// Whether `error` says that something is there already that may be there once.
#[must_use]
pub fn is_unique_violation(error: &(dyn Error + 'static)) -> bool {
    storage_error(error)
        .and_then(code)
        .is_some_and(|code| code == "23505")
}

/// Whether `error` says that a text has a null character, which no column can hold.
#[must_use]
pub fn is_unstorable_text(error: &(dyn Error + 'static)) -> bool {
    let code = storage_error(error).and_then(code);
    code.is_some_and(|code| code == "22021" || code == "22P05")
}

/// Whether `error` comes from a database that cannot be reached at the moment.
///
/// The caller may answer 503 with `Retry-After`. Whether a statement that was under way took effect
/// is unknown.
#[must_use]
pub fn is_connection_error(error: &(dyn Error + 'static)) -> bool {
    match storage_error(error) {
        Some(
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed,
        ) => true,
        Some(error) => code(error).is_some_and(|code| {
            // Connection exceptions, too many connections, shutdown, crash, starting up.
            code.starts_with("08") || code == "53300" || code.starts_with("57P0")
        }),
        None => false,
    }
}

/// Whether a serialization failure or a deadlock is among the causes of `error`: the transaction may be run again.
#[must_use]
pub fn is_conflict(error: &(dyn Error + 'static)) -> bool {
    storage_error(error)
        .and_then(code)
        .is_some_and(|code| matches!(code.as_str(), "40001" | "40P01"))
}

/// Whether the database gave a statement up that waited or ran for too long, or a transaction that was idle.
#[must_use]
pub fn is_timeout(error: &(dyn Error + 'static)) -> bool {
    storage_error(error)
        .and_then(code)
        .is_some_and(|code| matches!(code.as_str(), "55P03" | "57014" | "25P03"))
}

fn storage_error<'a>(mut error: &'a (dyn Error + 'static)) -> Option<&'a sqlx::Error> {
    loop {
        if let Some(error) = error.downcast_ref() {
            return Some(error);
        }
        error = error.source()?;
    }
}

fn code(error: &sqlx::Error) -> Option<String> {
    error
        .as_database_error()
        .and_then(DatabaseError::code)
        .map(Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use sqlx::{PgPool, raw_sql};

    use super::*;
    use crate::MIGRATOR;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[from] sqlx::Error);

    /// Runs `statements[n]` on the n-th attempt and returns how many attempts there were.
    async fn attempts(pool: &PgPool, statements: &[&'static str]) -> (u32, Result<(), Outer>) {
        let attempt = AtomicU32::new(0);
        let result = retry("test", || async {
            let n = attempt.fetch_add(1, Ordering::Relaxed) as usize;
            raw_sql(statements[n]).execute(pool).await?;
            Ok(())
        })
        .await;
        (attempt.into_inner(), result)
    }

    const CONFLICT: &str = "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40001'; END $$";

    #[sqlx::test(migrator = "MIGRATOR")]
    async fn a_conflict_starts_the_transaction_over(pool: PgPool) {
        let (count, result) = attempts(&pool, &[CONFLICT, CONFLICT, "SELECT 1"]).await;

        assert_eq!(count, 3);
        assert!(result.is_ok());
    }

    #[sqlx::test(migrator = "MIGRATOR")]
    async fn any_other_error_is_returned_at_once(pool: PgPool) {
        let (count, result) = attempts(&pool, &["SELECT nonsense"]).await;

        assert_eq!(count, 1);
        assert!(result.is_err());
    }

    #[sqlx::test(migrator = "MIGRATOR")]
    async fn endless_conflict_is_given_up(pool: PgPool) {
        let (count, result) = attempts(&pool, &[CONFLICT; 9]).await;

        assert_eq!(count, MAX_ATTEMPTS);
        assert!(result.is_err());
    }

    #[sqlx::test(migrator = "MIGRATOR")]
    async fn a_terminated_session_is_a_connection_error_and_a_bad_statement_is_not(pool: PgPool) {
        let killed = raw_sql("SELECT pg_terminate_backend(pg_backend_pid())")
            .execute(&pool)
            .await
            .map_err(Outer)
            .unwrap_err();
        let wrong = raw_sql("SELECT nonsense").execute(&pool).await.unwrap_err();

        assert!(is_connection_error(&killed));
        assert!(!is_connection_error(&wrong));
    }
}
