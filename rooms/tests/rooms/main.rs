//! Rooms against a real `PostgreSQL`, with other servers that are made up.

#[cfg(test)]
mod branches;
#[cfg(test)]
#[path = "../shared/counts.rs"]
mod counts;
#[cfg(test)]
mod engine;
#[cfg(test)]
mod gaps;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod intake;
#[cfg(test)]
mod peer;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod racing;
#[cfg(test)]
mod receiving;
