//! Whose database this is, which binaries may use it, and its migrations: the table `hearth`.
//!
//! The number of the newest migration is the schema number of a binary. `hearth.minimum_compatible`
//! is the smallest schema number with which the database can still be used: a migration that old
//! binaries cannot live with raises it, in the row and in the column's default. So an older binary
//! runs beside a newer one until such a migration was applied, and is refused afterwards.

use std::time::Duration;

use ruma::ServerName;
use sqlx::{
    Connection as _, PgConnection,
    migrate::{MigrateError, Migrator},
};
use tokio::time::sleep;
use tracing::info;

/// The oldest `PostgreSQL` that Hearth works with, as `server_version_num` says it.
const OLDEST_SERVER: i32 = 150_000;

/// Held while a process looks at and migrates the schema ("hearth" in ASCII).
const MIGRATION_LOCK: i64 = 0x68_65_61_72_74_68;

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// The server is too old.
    #[error("the database server is PostgreSQL {0}, but Hearth needs version 15 or newer")]
    OldServer(String),
    /// The text of the database is not Unicode.
    #[error(
        "the database stores text as {0}, but Hearth needs UTF8: CREATE DATABASE hearth ENCODING 'UTF8' TEMPLATE template0"
    )]
    Encoding(String),
    /// Another program has its tables there.
    #[error(
        "the database belongs to another program (it has the table or view \"{0}\"); give Hearth an empty database of its own"
    )]
    Foreign(String),
    /// Another server has its data there.
    #[error(
        "the database belongs to the server \"{owner}\", but server_name is \"{configured}\"; the name of a server cannot change"
    )]
    OtherServer {
        /// The name in the database.
        owner: String,
        /// The name in the configuration.
        configured: String,
    },
    /// Only newer binaries may use it.
    #[error(
        "the database needs a newer Hearth: it can be used from schema {needed} on, and this binary knows schema {known}"
    )]
    TooNew {
        /// The smallest schema number that may use the database.
        needed: i64,
        /// The schema number of this binary.
        known: i64,
    },
    /// A released migration was edited.
    #[error(
        "migration {0} is not the one that was applied to this database; it comes from another edition of Hearth"
    )]
    Changed(i64),
    /// A migration failed and was rolled back.
    #[error("applying the migrations failed")]
    Migrate(#[source] MigrateError),
    /// The database failed.
    #[error("reading the schema of the database failed")]
    Storage(#[from] sqlx::Error),
}

/// Makes the database ready for this binary, or says why it must not be touched.
///
/// Nothing is written before all checks passed. Several processes may call this at once: one
/// migrates and the others wait. The lock is tried again and again, because a statement that waits
/// for a lock would block the `CREATE INDEX CONCURRENTLY` of a migration. `conn` must be a direct
/// connection (no pooler between statements) and should be closed afterwards.
pub async fn prepare(
    conn: &mut PgConnection,
    migrator: &Migrator,
    server_name: &ServerName,
) -> Result<(), SchemaError> {
    check_server(conn).await?;

    let mut told = false;
    while !try_lock(conn).await? {
        if !told {
            info!("waiting for another process that migrates the database");
            told = true;
        }
        sleep(Duration::from_millis(100)).await;
    }
    let result = prepare_locked(conn, migrator, server_name).await;
    let unlocked = unlock(conn).await;
    result?;
    Ok(unlocked?)
}

async fn prepare_locked(
    conn: &mut PgConnection,
    migrator: &Migrator,
    server_name: &ServerName,
) -> Result<(), SchemaError> {
    if exists(conn).await? {
        check_owner(conn, migrator, server_name).await?;
    } else if let Some(name) = find_foreign(conn).await? {
        return Err(SchemaError::Foreign(name));
    }

    let mut migrator = Migrator::with_migrations(migrator.iter().cloned().collect());
    migrator.set_ignore_missing(true).set_locking(false);
    migrator.run(&mut *conn).await.map_err(|error| {
        if let MigrateError::VersionMismatch(version) = error {
            SchemaError::Changed(version)
        } else {
            SchemaError::Migrate(error)
        }
    })?;

    insert(conn, server_name).await?;
    Ok(())
}

/// Refuses the databases of other servers and those that only newer binaries may use.
async fn check_owner(
    conn: &mut PgConnection,
    migrator: &Migrator,
    server_name: &ServerName,
) -> Result<(), SchemaError> {
    let known = migrator.iter().map(|m| m.version).max().unwrap_or(0);
    match find(conn).await? {
        Found::NotOurs => Err(SchemaError::Foreign("hearth".to_owned())),
        Found::Row(owner, _) if owner != server_name.as_str() => Err(SchemaError::OtherServer {
            owner,
            configured: server_name.to_string(),
        }),
        Found::Row(_, needed) if needed > known => Err(SchemaError::TooNew { needed, known }),
        Found::Row(..) | Found::Unclaimed => Ok(()),
    }
}

async fn check_server(conn: &mut PgConnection) -> Result<(), SchemaError> {
    let row = sqlx::query!(
        r#"SELECT current_setting('server_version') AS "version!",
                  current_setting('server_version_num')::integer AS "number!",
                  current_setting('server_encoding') AS "encoding!""#
    )
    .fetch_one(conn)
    .await?;
    if row.number < OLDEST_SERVER {
        return Err(SchemaError::OldServer(row.version));
    }
    if row.encoding != "UTF8" {
        return Err(SchemaError::Encoding(row.encoding));
    }
    Ok(())
}

async fn try_lock(conn: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT pg_try_advisory_lock($1) AS "locked!""#,
        MIGRATION_LOCK
    )
    .fetch_one(conn)
    .await
}

async fn unlock(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("SELECT pg_advisory_unlock($1)", MIGRATION_LOCK)
        .fetch_one(conn)
        .await?;
    Ok(())
}

/// Whether the schema has a table `hearth`.
async fn exists(conn: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (
               SELECT FROM pg_class
               WHERE relnamespace = to_regnamespace(quote_ident(current_schema()))
                 AND relname = 'hearth' AND relkind = 'r'
           ) AS "exists!""#
    )
    .fetch_one(conn)
    .await
}

/// Finds a table or the like that is neither ours nor part of an extension.
///
/// The list of applied migrations alone is ours: a first start that was cut short leaves it.
async fn find_foreign(conn: &mut PgConnection) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!(
        r#"SELECT relname::text AS "name!" FROM pg_class
           WHERE relnamespace = to_regnamespace(quote_ident(current_schema()))
             AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
             AND relname <> '_sqlx_migrations'
             AND NOT EXISTS (
                 SELECT FROM pg_depend
                 WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype = 'e'
             )
           ORDER BY relname LIMIT 1"#
    )
    .fetch_optional(conn)
    .await
}

/// What the table `hearth` says.
enum Found {
    /// The server's name and the minimum compatible schema number.
    Row(String, i64),
    /// No row yet: the first start was cut short.
    Unclaimed,
    /// It only bears the name.
    NotOurs,
}

async fn find(conn: &mut PgConnection) -> sqlx::Result<Found> {
    let row = sqlx::query!("SELECT server_name, minimum_compatible FROM hearth")
        .fetch_optional(&mut *conn)
        .await;
    match row {
        Ok(Some(row)) => Ok(Found::Row(row.server_name, row.minimum_compatible.into())),
        Ok(None) => Ok(Found::Unclaimed),
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42703") => {
            Ok(Found::NotOurs)
        }
        Err(error) => Err(error),
    }
}

async fn insert(conn: &mut PgConnection, server_name: &ServerName) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO hearth (server_name) VALUES ($1) ON CONFLICT DO NOTHING",
        server_name.as_str(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Closes a connection that [`prepare`] used; its end frees the lock in any case.
pub(crate) async fn close(conn: PgConnection) {
    if let Err(error) = conn.close().await {
        tracing::debug!(%error, "closing the connection of the migrations failed");
    }
}
