//! Every line of SQL, the pool and the private PostgreSQL.
