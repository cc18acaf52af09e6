//! The settings of the private cluster.

use std::{fs, path::Path};

use super::place::PORT;

/// Appended once to the `postgresql.conf` that `initdb` makes; the last setting counts.
pub(super) const INCLUDES: &str = "
# Written by Hearth before every start:
include 'hearth.conf'
# Yours, if you want other settings:
include_if_exists 'operator.conf'
";

/// Who gets in: whoever reaches the socket, which is guarded by its folder.
pub(super) const ACCESS: &str = "\
# Written by Hearth. The folder of the socket (mode 0700) keeps other accounts out.
local all all trust
";

/// The text of `hearth.conf`, for a socket in `socket`.
///
/// A homeserver inserts much, updates little and asks small questions: no parallel plans and no
/// compilation, frequent vacuum of tables that only grow, compressed and well spread checkpoints.
/// Errors of statements are reported to Hearth and kept out of the log, because their texts can
/// hold what users wrote.
pub(super) fn settings(socket: &Path) -> String {
    let memory = memory_mib();
    format!(
        "\
# Written by Hearth before every start; put your own settings into operator.conf.
listen_addresses = ''
port = {PORT}
unix_socket_directories = '{socket}'
unix_socket_permissions = 0700
max_connections = 200

fsync = on
full_page_writes = on
synchronous_commit = on
wal_compression = on
checkpoint_timeout = 15min
checkpoint_completion_target = 0.9
max_wal_size = 2GB

shared_buffers = {buffers}MB
effective_cache_size = {cache}MB
work_mem = 8MB
maintenance_work_mem = {maintenance}MB
random_page_cost = 1.1
jit = off
max_parallel_workers_per_gather = 0
autovacuum_vacuum_scale_factor = 0.05
autovacuum_vacuum_insert_scale_factor = 0.02
autovacuum_analyze_scale_factor = 0.02
client_connection_check_interval = {check}

timezone = 'UTC'
log_timezone = 'UTC'
log_destination = 'stderr'
logging_collector = off
log_line_prefix = '%m [%p] '
log_min_messages = log
log_min_error_statement = panic
log_checkpoints = off
log_autovacuum_min_duration = -1
",
        socket = socket.display(),
        buffers = (memory / 8).clamp(64, 1024),
        cache = (memory / 2).max(256),
        maintenance = (memory / 32).clamp(32, 256),
        check = if cfg!(target_os = "linux") {
            "10s"
        } else {
            "0"
        },
    )
}

/// The memory of the machine in MiB, or a modest guess.
fn memory_mib() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next())
        .and_then(|kib| kib.parse::<u64>().ok())
        .map_or(2048, |kib| kib / 1024)
}
