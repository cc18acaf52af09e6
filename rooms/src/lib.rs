//! The event DAG: build, authorise, resolve, persist, read history.
