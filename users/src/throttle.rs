//! Guessing passwords gets slower with every wrong one, on top of rate limits.

use std::{net::IpAddr, time::Duration};

use moka::{ops::compute::Op, sync::Cache};

/// How long wrong passwords are remembered.
const MEMORY: Duration = Duration::from_mins(15);

/// How many wrong passwords for one account cost nothing.
const FREE_PER_ACCOUNT: u32 = 3;

/// How many wrong passwords from one address cost nothing; many people may share it.
const FREE_PER_ADDRESS: u32 = 20;

/// The first delay; each further wrong password doubles it.
const FIRST: Duration = Duration::from_millis(250);

/// The longest delay, so that guessing for somebody else does not lock them out.
const LONGEST: Duration = Duration::from_secs(8);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Account(String),
    Address(IpAddr),
}

/// Counts wrong passwords by account and by address.
///
/// Each process counts for itself: with several of them guessing is a little faster, and still slow.
#[derive(Clone, Debug)]
pub struct Throttle(Cache<Key, u32>);

impl Default for Throttle {
    fn default() -> Self {
        Self(
            Cache::builder()
                .max_capacity(100_000)
                .time_to_live(MEMORY)
                .build(),
        )
    }
}

/// An attempt that has been counted as wrong until it turns out to be right.
#[derive(Debug)]
#[must_use]
pub struct Attempt {
    account: Key,
    address: Option<Key>,
    delay: Duration,
}

impl Attempt {
    /// How long to wait before the password is looked at.
    #[must_use]
    pub fn delay(&self) -> Duration {
        self.delay
    }
}

impl Throttle {
    /// Counts an attempt on `localpart`.
    ///
    /// It is counted before it is known to be wrong, so that attempts at the same time are all counted.
    pub fn begin(&self, localpart: &str, address: Option<IpAddr>) -> Attempt {
        let account = Key::Account(localpart.to_owned());
        let address = address.map(Key::Address);
        let mut wait = delay(self.add(&account), FREE_PER_ACCOUNT);
        if let Some(address) = &address {
            wait = wait.max(delay(self.add(address), FREE_PER_ADDRESS));
        }
        Attempt {
            account,
            address,
            delay: wait,
        }
    }

    /// The attempt was right: it is not counted, and the account's wrong ones are forgotten.
    ///
    /// Those of the address are not, else one's own account would do to guess for others.
    pub fn succeed(&self, attempt: Attempt) {
        self.0.invalidate(&attempt.account);
        if let Some(address) = attempt.address {
            self.0.entry(address).and_compute_with(|entry| match entry {
                Some(entry) => Op::Put(entry.into_value().saturating_sub(1)),
                None => Op::Nop,
            });
        }
    }

    /// Adds one and returns how many there were.
    fn add(&self, key: &Key) -> u32 {
        let entry = self
            .0
            .entry_by_ref(key)
            .and_upsert_with(|entry| entry.map_or(1, |entry| entry.into_value().saturating_add(1)));
        entry.into_value() - 1
    }
}

fn delay(before: u32, free: u32) -> Duration {
    let Some(doublings) = before.checked_sub(free) else {
        return Duration::ZERO;
    };
    FIRST.saturating_mul(1 << doublings.min(16)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_passwords_for_one_account_get_slower() {
        let throttle = Throttle::default();

        let delays: Vec<_> = (0..10)
            .map(|_| throttle.begin("alice", None).delay().as_millis())
            .collect();

        assert_eq!(delays, [0, 0, 0, 250, 500, 1000, 2000, 4000, 8000, 8000]);
        assert_eq!(throttle.begin("bob", None).delay(), Duration::ZERO);
    }

    #[test]
    fn the_right_password_ends_it() {
        let throttle = Throttle::default();
        for _ in 0..9 {
            drop(throttle.begin("alice", None));
        }

        let attempt = throttle.begin("alice", None);
        throttle.succeed(attempt);

        assert_eq!(throttle.begin("alice", None).delay(), Duration::ZERO);
    }

    #[test]
    fn ones_own_account_does_not_help_to_guess_for_others() {
        let throttle = Throttle::default();
        let address = Some(IpAddr::from([192, 0, 2, 1]));
        for n in 0..25 {
            drop(throttle.begin(&format!("user{n}"), address));
            throttle.succeed(throttle.begin("mallory", address));
        }

        assert!(throttle.begin("victim", address).delay() > Duration::ZERO);
    }
}
