//! Which databases Hearth uses and which it refuses.

use hearth_store::{
    MIGRATOR,
    schema::{SchemaError, prepare},
};
use ruma::server_name;
use sqlx::{PgPool, raw_sql};

/// What a start on this database says.
#[cfg(test)]
async fn start(pool: &PgPool) -> Result<(), SchemaError> {
    let mut conn = pool.acquire().await.unwrap();
    prepare(&mut conn, &MIGRATOR, server_name!("example.org")).await
}

#[cfg(test)]
async fn run(pool: &PgPool, statement: &'static str) {
    raw_sql(statement).execute(pool).await.unwrap();
}

#[cfg(test)]
async fn refusal(pool: &PgPool) -> String {
    start(pool).await.unwrap_err().to_string()
}

#[sqlx::test(migrations = false)]
async fn an_empty_database_is_taken_and_kept(pool: PgPool) {
    start(&pool).await.unwrap();
    start(&pool).await.unwrap();

    let owner: String = sqlx::query_scalar("SELECT server_name FROM hearth")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(owner, "example.org");
}

#[sqlx::test(migrations = false)]
async fn many_processes_can_take_an_empty_database_at_once(pool: PgPool) {
    let (a, b, c) = tokio::join!(start(&pool), start(&pool), start(&pool));

    assert!(a.is_ok() && b.is_ok() && c.is_ok());
}

#[sqlx::test(migrations = false)]
async fn the_database_of_another_program_is_refused_untouched(pool: PgPool) {
    run(&pool, "CREATE TABLE state_groups (id bigint)").await;

    let refusal = refusal(&pool).await;

    assert!(refusal.contains("belongs to another program"), "{refusal}");
    assert!(refusal.contains("\"state_groups\""), "{refusal}");
    let tables: i64 =
        sqlx::query_scalar("SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!(tables, 1);
}

#[sqlx::test(migrations = false)]
async fn another_programs_table_named_hearth_is_refused(pool: PgPool) {
    run(&pool, "CREATE TABLE hearth (wood text)").await;

    assert!(refusal(&pool).await.contains("belongs to another program"));
}

#[sqlx::test(migrations = false)]
async fn what_an_extension_brings_is_no_other_program(pool: PgPool) {
    // A stand-in for an extension that is installed everywhere.
    run(
        &pool,
        "CREATE VIEW statistics AS SELECT 1 AS one;
         ALTER EXTENSION plpgsql ADD VIEW statistics",
    )
    .await;

    start(&pool).await.unwrap();
}

#[sqlx::test(migrations = false)]
async fn a_first_start_that_was_cut_short_goes_on(pool: PgPool) {
    start(&pool).await.unwrap();
    run(&pool, "DELETE FROM hearth").await;

    start(&pool).await.unwrap();

    assert!(start(&pool).await.is_ok());
}

#[sqlx::test(migrations = false)]
async fn the_database_of_another_server_is_refused(pool: PgPool) {
    start(&pool).await.unwrap();
    run(&pool, "UPDATE hearth SET server_name = 'elsewhere.org'").await;

    let refusal = refusal(&pool).await;

    assert!(
        refusal.contains("belongs to the server \"elsewhere.org\""),
        "{refusal}"
    );
    assert!(refusal.contains("\"example.org\""), "{refusal}");
}

#[sqlx::test(migrations = false)]
async fn a_database_for_newer_binaries_only_is_refused(pool: PgPool) {
    start(&pool).await.unwrap();
    run(&pool, "UPDATE hearth SET minimum_compatible = 9999").await;

    let refusal = refusal(&pool).await;

    assert!(refusal.contains("needs a newer Hearth"), "{refusal}");
    assert!(refusal.contains("from schema 9999 on"), "{refusal}");
}

#[sqlx::test(migrations = false)]
async fn a_newer_database_that_is_still_compatible_is_accepted(pool: PgPool) {
    start(&pool).await.unwrap();
    run(
        &pool,
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'from the future', true, '', 0)",
    )
    .await;

    start(&pool).await.unwrap();
}

#[sqlx::test(migrations = false)]
async fn an_edited_migration_is_noticed(pool: PgPool) {
    start(&pool).await.unwrap();
    run(
        &pool,
        "UPDATE _sqlx_migrations SET checksum = '' WHERE version = 1",
    )
    .await;

    assert!(matches!(start(&pool).await, Err(SchemaError::Changed(1))));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_book_says_of_every_table_what_bounds_it(pool: PgPool) {
    let book = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/storage.md");
    let book = std::fs::read_to_string(book).unwrap();
    let tables: Vec<String> = sqlx::query_scalar(
        r"SELECT relname::text FROM pg_class
          WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname NOT LIKE '\_sqlx%'",
    )
    .fetch_all(&pool)
    .await
    .unwrap();

    let rows = book.lines().filter(|line| line.starts_with("| `"));
    let described: Vec<&str> = rows
        .filter_map(|line| line.split('|').nth(1))
        .flat_map(|names| names.split('`').skip(1).step_by(2))
        .collect();
    for table in tables {
        assert!(
            described.contains(&table.as_str()),
            "{table} is missing in docs/storage.md"
        );
    }
}
