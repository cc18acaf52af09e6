//! Tables: one line as each scenario ends, and a page that compares servers.

use std::fmt::Write as _;

use crate::measure::{Outcome, Run};

/// The head of the table that [`line`] fills.
pub(crate) fn head() -> String {
    format!(
        "{:<42} {:>10} {:>9} {:>9} {:>9} {:>6} {:>6} {:>9} {:>9}",
        "scenario",
        "a second",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "errors",
        "missed",
        "CPU ms/op",
        "peak MB"
    )
}

/// One outcome as a line of a table.
pub(crate) fn line(outcome: &Outcome) -> String {
    let missed = outcome.missed_wakeups.map(|missed| missed.to_string());
    let cpu = outcome.cpu_ms().map(|cpu| format!("{cpu:.3}"));
    let mut line = format!(
        "{:<42} {:>10.1} {:>9.2} {:>9.2} {:>9.2} {:>6} {:>6} {:>9} {:>9}",
        outcome.scenario,
        outcome.rate,
        outcome.latency.p50,
        outcome.latency.p95,
        outcome.latency.p99,
        outcome.errors,
        missed.unwrap_or_default(),
        cpu.unwrap_or_default(),
        peak(outcome).unwrap_or_default(),
    );
    for (name, value) in &outcome.figures {
        write!(line, "\n    {name}: {value:.2}").expect("a string takes everything");
    }
    if let Some(bytes) = outcome.database_growth {
        write!(line, "\n    database growth, bytes: {bytes}").expect("a string takes everything");
    }
    if let Some(error) = &outcome.first_error {
        write!(line, "\n    first error: {error}").expect("a string takes everything");
    }
    line
}

/// The most memory of the process called `server`, in MB.
fn peak(outcome: &Outcome) -> Option<String> {
    let usage = outcome.processes.get("server")?;
    Some((usage.peak_rss >> 20).to_string())
}

/// A page that compares `runs`; the first is what the others are measured against.
pub(crate) fn page(runs: &[Run]) -> String {
    let mut page = String::from(
        "# Performance\n\n\
         Written by `make bench`. Generator, server and database share one machine; the servers ran one after the\n\
         other. A percentage is the share of what the floor reached, a server that answers the same requests from\n\
         memory, checks nothing and keeps nothing. What each scenario does: `bench/README.md`.\n",
    );
    machine(&mut page, runs);
    let mut scenarios: Vec<&str> = Vec::new();
    for outcome in runs.iter().flat_map(|run| &run.outcomes) {
        if !scenarios.contains(&outcome.scenario.as_str()) {
            scenarios.push(&outcome.scenario);
        }
    }
    summary(&mut page, runs, &scenarios);
    for scenario in scenarios {
        details(&mut page, runs, scenario);
    }
    page
}

fn machine(page: &mut String, runs: &[Run]) {
    page.push('\n');
    for (key, value) in runs.iter().flat_map(|run| &run.machine).take(4) {
        push(page, format_args!("- {key}: {value}\n"));
    }
    for run in runs {
        let notes: Vec<_> = run
            .notes
            .iter()
            .map(|(key, value)| format!("{key} {value}"))
            .collect();
        push(
            page,
            format_args!("- {}: {}\n", run.server, notes.join(", ")),
        );
    }
}

/// The rates of all servers in all scenarios.
fn summary(page: &mut String, runs: &[Run], scenarios: &[&str]) {
    page.push_str("\n## A second\n\n| scenario |");
    for run in runs {
        push(page, format_args!(" {} |", run.server));
    }
    page.push_str("\n|---|");
    page.push_str(&"--:|".repeat(runs.len()));
    for scenario in scenarios {
        let outcomes: Vec<_> = runs.iter().map(|run| find(run, scenario)).collect();
        let unit = outcomes
            .iter()
            .flatten()
            .next()
            .map_or("", |outcome| &outcome.unit);
        if outcomes.iter().flatten().all(|outcome| outcome.rate == 0.0) {
            continue;
        }
        push(page, format_args!("\n| {scenario}: {unit} |"));
        for (n, outcome) in outcomes.iter().enumerate() {
            match outcome {
                Some(outcome) => {
                    push(
                        page,
                        format_args!(
                            " {}{} |",
                            rate(outcome.rate),
                            share(outcomes[0], outcome, n)
                        ),
                    );
                }
                None => page.push_str(" |"),
            }
        }
    }
    page.push('\n');
}

fn details(page: &mut String, runs: &[Run], scenario: &str) {
    push(page, format_args!("\n## {scenario}\n\n"));
    page.push_str(
        "| server | a second | p50 ms | p95 ms | p99 ms | errors | missed wake-ups | CPU ms each | of it the server | \
         peak MB | database bytes each | more |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|\n",
    );
    for run in runs {
        let Some(outcome) = find(run, scenario) else {
            continue;
        };
        let each = f64::from(outcome.operations.max(1));
        let own = outcome
            .processes
            .get("server")
            .map(|usage| usage.cpu_seconds * 1000.0 / each);
        let bytes = outcome
            .database_growth
            .and_then(|bytes| i32::try_from(bytes).ok());
        let more: Vec<_> = outcome
            .figures
            .iter()
            .map(|(name, value)| format!("{name}: {}", rate(*value)))
            .collect();
        push(
            page,
            format_args!(
                "| {} | {} | {:.2} | {:.2} | {:.2} | {} | {} | {} | {} | {} | {} | {} |\n",
                run.server,
                rate(outcome.rate),
                outcome.latency.p50,
                outcome.latency.p95,
                outcome.latency.p99,
                outcome.errors,
                outcome
                    .missed_wakeups
                    .map(|missed| missed.to_string())
                    .unwrap_or_default(),
                outcome
                    .cpu_ms()
                    .map(|cpu| format!("{cpu:.3}"))
                    .unwrap_or_default(),
                own.map(|cpu| format!("{cpu:.3}")).unwrap_or_default(),
                peak(outcome).unwrap_or_default(),
                bytes
                    .map(|bytes| format!("{:.0}", f64::from(bytes) / each))
                    .unwrap_or_default(),
                more.join("; "),
            ),
        );
    }
}

fn find<'a>(run: &'a Run, scenario: &str) -> Option<&'a Outcome> {
    run.outcomes
        .iter()
        .find(|outcome| outcome.scenario == scenario)
}

/// The share of what the first server reached.
fn share(first: Option<&Outcome>, outcome: &Outcome, n: usize) -> String {
    match first {
        Some(first) if n > 0 && first.rate > 0.0 => {
            format!(" ({} %)", rate(outcome.rate / first.rate * 100.0))
        }
        Some(_) | None => String::new(),
    }
}

/// A number with as many digits as mean something.
fn rate(value: f64) -> String {
    if value.abs() >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}

fn push(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text).expect("a string takes everything");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn run(server: &str, rate: f64) -> Run {
        let outcome = Outcome {
            scenario: "send, one room".to_owned(),
            unit: "messages".to_owned(),
            operations: 10,
            rate,
            ..Outcome::default()
        };
        Run {
            server: server.to_owned(),
            notes: BTreeMap::from([("version".to_owned(), "1".to_owned())]),
            machine: BTreeMap::new(),
            outcomes: vec![outcome],
        }
    }

    #[test]
    fn servers_are_shown_as_a_share_of_the_first() {
        let page = page(&[run("floor", 2000.0), run("Hearth", 500.0)]);

        assert!(
            page.contains("| send, one room: messages | 2000 | 500 (25.0 %) |"),
            "{page}"
        );
        assert!(page.contains("- Hearth: version 1\n"));
    }
}
