//! Rebuilds the crate when a migration is added or changed, which `sqlx::migrate!` alone does not.

fn main() {
    println!("cargo:rerun-if-changed=../migrations");
}
