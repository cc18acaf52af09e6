//! `docs/interoperability.md` lists the cases.

use std::{fmt::Write as _, path::PathBuf};

use libtest_mimic::Failed;

use super::cases::{CASES, Case};

/// The lines around the table.
const START: &str = "<!-- cases -->\n";
const END: &str = "<!-- end of cases -->\n";

/// Fails when the page's table is not that of the cases.
///
/// `INTEROP_WRITE=1` writes it anew.
pub(crate) fn check() -> Result<(), Failed> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/interoperability.md");
    let page = std::fs::read_to_string(&file)?;
    let (before, rest) = page
        .split_once(START)
        .ok_or("the table's start is missing")?;
    let (_, after) = rest.split_once(END).ok_or("the table's end is missing")?;
    let right = format!("{before}{START}{}{END}{after}", table(CASES));
    if std::env::var_os("INTEROP_WRITE").is_some() {
        std::fs::write(&file, right)?;
    } else if page != right {
        return Err("the table is old: run the tests with INTEROP_WRITE=1".into());
    }
    Ok(())
}

fn table(cases: &[Case]) -> String {
    let mut table = String::from("| case | what it shows |\n|---|---|\n");
    for case in cases {
        writeln!(table, "| `{}` | {} |", case.name, case.shows).unwrap();
    }
    table
}
