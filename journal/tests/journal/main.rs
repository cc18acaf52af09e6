//! The journal against a real `PostgreSQL`, and a real Redis.

#[cfg(test)]
mod crash;
#[cfg(test)]
mod epochs;
#[cfg(test)]
mod failing;
#[cfg(test)]
mod losing;
#[cfg(test)]
mod lost_answers;
#[cfg(test)]
mod ordering;
#[cfg(test)]
mod processes;
#[cfg(test)]
mod proxy;
#[cfg(test)]
mod scene;
