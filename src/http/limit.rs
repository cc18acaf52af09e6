//! How often somebody may do something.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
};
use hearth_core::config::{Limits, Rate};
use ruma::{ServerName, UserId};

use super::{client_address::ClientAddress, error::ApiError};

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// To log in, by address.
    Login,
    /// To create an account, by address.
    Registration,
    /// To send an event, by user.
    Message,
    /// To join a room, by user.
    Join,
    /// Whatever else the specification wants to be limited, by user ([`super::api::Metered`]).
    Request,
    /// To make a request, by other server.
    Federation,
    /// To be invited from elsewhere, by user.
    Invite,
}

/// The limits of all actions, shared by all handlers.
#[derive(Clone)]
pub struct RateLimits {
    current: Arc<RwLock<Arc<Limiters>>>,
    hasher: RandomState,
}

/// Keys are hashed, so that a key costs the same however long a user id is.
type Limiter = DefaultKeyedRateLimiter<u64>;

struct Limiters {
    is_on: bool,
    login: Limiter,
    registration: Limiter,
    message: Limiter,
    join: Limiter,
    request: Limiter,
    federation: Limiter,
    invite: Limiter,
}

impl std::fmt::Debug for RateLimits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RateLimits").finish_non_exhaustive()
    }
}

impl RateLimits {
    /// Limits as configured.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            current: Arc::new(RwLock::new(Arc::new(Limiters::new(limits)))),
            hasher: RandomState::new(),
        }
    }

    /// Takes new limits into force. What was done so far is forgotten.
    pub fn reload(&self, limits: &Limits) {
        let limiters = Arc::new(Limiters::new(limits));
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = limiters;
    }

    /// Counts an action of a user.
    ///
    /// # Errors
    ///
    /// `M_LIMIT_EXCEEDED` when there were too many.
    pub fn check_user(&self, action: Action, user: &UserId) -> Result<(), ApiError> {
        self.check(action, self.hasher.hash_one(user.as_str()))
    }

    /// Counts a request of another server.
    ///
    /// # Errors
    ///
    /// `M_LIMIT_EXCEEDED` when there were too many.
    pub fn check_server(&self, server: &ServerName) -> Result<(), ApiError> {
        self.check(Action::Federation, self.hasher.hash_one(server.as_str()))
    }

    /// Counts an action that comes from an address, when the address is known.
    ///
    /// An IPv6 address counts as its network of 64 bits, since that is what a customer gets.
    ///
    /// # Errors
    ///
    /// `M_LIMIT_EXCEEDED` when there were too many.
    pub fn check_address(&self, action: Action, client: ClientAddress) -> Result<(), ApiError> {
        match client.ip().map(|ip| ip.to_canonical()) {
            None => Ok(()),
            Some(IpAddr::V4(ip)) => self.check(action, self.hasher.hash_one(ip.octets())),
            Some(IpAddr::V6(ip)) => self.check(action, self.hasher.hash_one(&ip.octets()[..8])),
        }
    }

    fn check(&self, action: Action, key: u64) -> Result<(), ApiError> {
        let limiters = self.limiters();
        if !limiters.is_on {
            return Ok(());
        }
        limiters.of(action).check_key(&key).map_err(|refused| {
            metrics::counter!("hearth_rate_limited_total", "action" => action.name()).increment(1);
            ApiError::limited(refused.wait_time_from(DefaultClock::default().now()))
        })
    }

    /// Forgets those who could do everything again. To be called now and then.
    pub fn forget_idle(&self) {
        let limiters = self.limiters();
        for limiter in limiters.all() {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }

    fn limiters(&self) -> Arc<Limiters> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Registration => "registration",
            Self::Message => "message",
            Self::Join => "join",
            Self::Request => "request",
            Self::Federation => "federation",
            Self::Invite => "invite",
        }
    }
}

impl Limiters {
    fn new(limits: &Limits) -> Self {
        let limiter = |rate: Rate| RateLimiter::keyed(quota(rate));
        Self {
            is_on: limits.rate_limit,
            login: limiter(limits.login),
            registration: limiter(limits.registration),
            message: limiter(limits.message),
            join: limiter(limits.join),
            request: limiter(limits.request),
            federation: limiter(limits.federation),
            invite: limiter(limits.invite),
        }
    }

    fn of(&self, action: Action) -> &Limiter {
        match action {
            Action::Login => &self.login,
            Action::Registration => &self.registration,
            Action::Message => &self.message,
            Action::Join => &self.join,
            Action::Request => &self.request,
            Action::Federation => &self.federation,
            Action::Invite => &self.invite,
        }
    }

    fn all(&self) -> [&Limiter; 7] {
        [
            &self.login,
            &self.registration,
            &self.message,
            &self.join,
            &self.request,
            &self.federation,
            &self.invite,
        ]
    }
}

fn quota(rate: Rate) -> Quota {
    let period = rate.period().max(Duration::from_nanos(1));
    Quota::with_period(period)
        .expect("the period is not zero")
        .allow_burst(rate.burst)
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use ruma::{api::error::ErrorKind, user_id};

    use super::*;

    fn limits() -> Limits {
        Limits {
            message: Rate::new(0.01, 2),
            login: Rate::new(0.01, 1),
            ..Limits::default()
        }
    }

    #[test]
    fn the_third_of_two_is_refused_with_the_time_to_wait() {
        let limits = RateLimits::new(&limits());
        let alice = user_id!("@alice:example.org");

        assert!(limits.check_user(Action::Message, alice).is_ok());
        assert!(limits.check_user(Action::Message, alice).is_ok());
        let error = limits.check_user(Action::Message, alice).unwrap_err();

        assert_eq!(error.status(), StatusCode::TOO_MANY_REQUESTS);
        let Some(ErrorKind::LimitExceeded(data)) = error.kind() else {
            panic!("{error}");
        };
        let Some(ruma::api::error::RetryAfter::Delay(wait)) = data.retry_after else {
            panic!("no time");
        };
        assert!(wait > Duration::from_secs(90) && wait <= Duration::from_secs(100));
    }

    #[test]
    fn users_and_actions_are_counted_apart() {
        let limits = RateLimits::new(&limits());
        let alice = user_id!("@alice:example.org");
        let bob = user_id!("@bob:example.org");

        for user in [alice, alice, bob, bob] {
            assert!(limits.check_user(Action::Message, user).is_ok());
        }
        assert!(limits.check_user(Action::Join, alice).is_ok());
    }

    #[test]
    fn neighbours_in_an_ipv6_network_are_one() {
        let limits = RateLimits::new(&limits());
        let client = |ip: &str| ClientAddress::new(Some(ip.parse().unwrap()));

        assert!(
            limits
                .check_address(Action::Login, client("2001:db8::1"))
                .is_ok()
        );
        assert!(
            limits
                .check_address(Action::Login, client("2001:db8::2"))
                .is_err()
        );
        assert!(
            limits
                .check_address(Action::Login, client("2001:db8:1::1"))
                .is_ok()
        );
        assert!(
            limits
                .check_address(Action::Login, client("192.0.2.1"))
                .is_ok()
        );
        assert!(
            limits
                .check_address(Action::Login, client("::ffff:192.0.2.1"))
                .is_err()
        );
    }

    #[test]
    fn a_reload_changes_limits_and_switches_them_off() {
        let limits_off = Limits {
            rate_limit: false,
            ..limits()
        };
        let limits = RateLimits::new(&limits());
        let alice = user_id!("@alice:example.org");
        for _ in 0..2 {
            limits.check_user(Action::Message, alice).unwrap();
        }
        assert!(limits.check_user(Action::Message, alice).is_err());

        limits.reload(&limits_off);

        for _ in 0..100 {
            assert!(limits.check_user(Action::Message, alice).is_ok());
        }
    }

    #[test]
    fn those_who_rested_are_forgotten() {
        let limits = RateLimits::new(&Limits {
            message: Rate::new(1_000_000.0, 2),
            ..Limits::default()
        });
        limits
            .check_user(Action::Message, user_id!("@alice:example.org"))
            .unwrap();

        std::thread::sleep(Duration::from_millis(5));
        limits.forget_idle();

        assert!(limits.limiters().message.is_empty());
    }
}
