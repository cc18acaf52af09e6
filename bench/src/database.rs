//! How large the database is, asked of `psql`.

use std::process::Command;

use crate::error::BenchError;

/// The bytes of the database at `url`.
pub(crate) fn size(url: &str) -> Result<i64, BenchError> {
    let output = Command::new("psql")
        .args([
            "-X",
            "-A",
            "-t",
            "-c",
            "SELECT pg_database_size(current_database())",
            url,
        ])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().map_err(|_| {
        let complaint = String::from_utf8_lossy(&output.stderr);
        BenchError::Usage(format!("psql does not know the size: {}", complaint.trim()))
    })
}
