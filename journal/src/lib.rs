//! The commit-ordered log: group commit, positions, fan-out.
