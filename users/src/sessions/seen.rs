//! When and where devices were seen, until it is written down.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use hearth_core::UserNid;
use hearth_store::device::Sighting;
use ruma::DeviceId;

/// The longest name of a program that is stored; longer ones are cut.
const MAX_USER_AGENT: usize = 250;

#[derive(Debug)]
struct Seen {
    device_id: String,
    ts: i64,
    address: Option<IpAddr>,
    user_agent: Option<String>,
}

/// The last sighting of each device since the last time they were written down.
#[derive(Debug, Default)]
pub(super) struct LastSeen(Mutex<HashMap<UserNid, Vec<Seen>>>);

impl LastSeen {
    /// Notes a sighting. Nothing is allocated when the device was seen before at the same place.
    pub(super) fn note(
        &self,
        user: UserNid,
        device_id: &DeviceId,
        ts: i64,
        address: Option<IpAddr>,
        user_agent: Option<&str>,
    ) {
        let user_agent = user_agent.map(cut);
        let mut seen = self.lock();
        let devices = seen.entry(user).or_default();
        if let Some(seen) = devices
            .iter_mut()
            .find(|seen| seen.device_id == device_id.as_str())
        {
            seen.ts = ts;
            seen.address = address.or(seen.address);
            if user_agent.is_some() && seen.user_agent.as_deref() != user_agent {
                seen.user_agent = user_agent.map(str::to_owned);
            }
            return;
        }
        devices.push(Seen {
            device_id: device_id.to_string(),
            ts,
            address,
            user_agent: user_agent.map(str::to_owned),
        });
    }

    /// What is noted of one user's devices.
    pub(super) fn of_user(&self, user: UserNid) -> Vec<Sighting> {
        let seen = self.lock();
        let devices = seen.get(&user).into_iter().flatten();
        devices.map(|seen| seen.sighting(user)).collect()
    }

    /// Takes all notes out, in the order of the table's key, so that two processes that write do not wait in a ring.
    pub(super) fn take(&self) -> Vec<Sighting> {
        let seen = std::mem::take(&mut *self.lock());
        let mut sightings: Vec<_> = seen
            .iter()
            .flat_map(|(user, devices)| devices.iter().map(|seen| seen.sighting(*user)))
            .collect();
        sightings.sort_by(|a, b| (a.user, &a.device_id).cmp(&(b.user, &b.device_id)));
        sightings
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<UserNid, Vec<Seen>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn sighting(&self, user: UserNid) -> Sighting {
        Sighting {
            user,
            device_id: self.device_id.clone(),
            ts: self.ts,
            ip: self.address.map(|address| address.to_string()),
            user_agent: self.user_agent.clone(),
        }
    }
}

fn cut(name: &str) -> &str {
    match name.char_indices().nth(MAX_USER_AGENT) {
        Some((end, _)) => &name[..end],
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_sighting_of_each_device_remains() {
        let seen = LastSeen::default();
        let (phone, laptop) = (<&DeviceId>::from("PHONE"), <&DeviceId>::from("LAPTOP"));
        let address = Some(IpAddr::from([192, 0, 2, 1]));

        seen.note(UserNid(1), phone, 10, address, Some("one"));
        seen.note(UserNid(1), laptop, 11, None, None);
        seen.note(UserNid(1), phone, 12, None, Some("two"));

        let sightings = seen.take();
        assert_eq!(sightings.len(), 2);
        assert_eq!(
            (sightings[1].ts, sightings[1].ip.as_deref()),
            (12, Some("192.0.2.1"))
        );
        assert_eq!(sightings[1].user_agent.as_deref(), Some("two"));
        assert_eq!(seen.take(), []);
    }
}
