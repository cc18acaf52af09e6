//! Figures for Prometheus.
//!
//! Whoever has a figure records it with the macros of the crate `metrics`; the names that other
//! crates use are described here, so that they can be found in one place.

use std::{
    fs,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use axum::{Router, extract::State, response::IntoResponse, routing::get};
use http::header;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use sqlx::PgPool;

use crate::http::{error::ApiError, observe::REQUEST_DURATION};

/// How often old samples are folded into the histograms.
pub const UPKEEP: Duration = Duration::from_secs(5);

/// The crate `metrics` has one recorder for the whole process, so its other end is one as well.
static RECORDER: Mutex<Option<PrometheusHandle>> = Mutex::new(None);

/// Upper bounds of the histogram's buckets, in seconds.
const BUCKETS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// How long it takes until a push gateway knows.
const PUSH_DELAY: &str = "hearth_push_delay_seconds";

/// Begins to record.
///
/// # Errors
///
/// Something else in this process records already.
pub fn record() -> Result<PrometheusHandle, BuildError> {
    // Held until it is installed: servers of one process may start at the same time.
    let mut recorder = RECORDER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*recorder {
        return Ok(handle.clone());
    }
    let duration = Matcher::Full(REQUEST_DURATION.to_owned());
    let delay = Matcher::Full(PUSH_DELAY.to_owned());
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(duration, &BUCKETS)?
        .set_buckets_for_metric(delay, &BUCKETS)?;
    let handle = builder.install_recorder()?;
    describe();
    Ok(recorder.insert(handle).clone())
}

/// Serves `/metrics`.
pub fn router(handle: PrometheusHandle, pool: PgPool) -> Router {
    Router::new()
        .route("/metrics", get(render))
        .fallback(|| async { ApiError::unrecognized() })
        .with_state((handle, pool))
}

async fn render(State((handle, pool)): State<(PrometheusHandle, PgPool)>) -> impl IntoResponse {
    metrics::gauge!("hearth_database_connections").set(f64::from(pool.size()));
    let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX);
    metrics::gauge!("hearth_database_connections_idle").set(f64::from(idle));
    if let Some(kibibytes) = resident_kibibytes() {
        metrics::gauge!("process_resident_memory_bytes").set(kibibytes * 1024.0);
    }
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        handle.render(),
    )
}

/// What the kernel says about the memory of this process.
fn resident_kibibytes() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

    describe_histogram!(REQUEST_DURATION, Unit::Seconds, "How long requests took");
    describe_counter!(
        "hearth_rate_limited_total",
        "Requests refused by a rate limit"
    );
    describe_gauge!(
        "hearth_connections",
        "Open connections of clients and peers"
    );
    describe_gauge!("hearth_database_connections", "Connections of the pool");
    describe_gauge!(
        "hearth_database_connections_idle",
        "Connections that nobody uses"
    );
    describe_gauge!(
        "hearth_sync_waiting",
        "Clients that wait in /sync for something new"
    );
    describe_histogram!(
        "hearth_journal_batch_writes",
        "How many writes a transaction of the log had"
    );
    describe_histogram!(
        "hearth_journal_commit_seconds",
        Unit::Seconds,
        "How long a transaction of the log took"
    );
    describe_gauge!(
        "hearth_stream_position",
        "The head of the log that this process has seen"
    );
    describe_counter!(
        "hearth_pushes_total",
        "Requests to push gateways, by outcome: taken, rejected, failed"
    );
    describe_histogram!(
        PUSH_DELAY,
        Unit::Seconds,
        "How long it took from an event until a push gateway had it"
    );
    describe_gauge!(
        "process_resident_memory_bytes",
        Unit::Bytes,
        "Memory of this process"
    );
}
