//! How users come and go.

use std::time::Duration;

use hearth_core::{Clock, UserNid};
use ruma::presence::PresenceState;
use sqlx::PgPool;

use super::{Presence, Status, Switch};
use crate::ephemeral::{Ephemeral, sharing::Fact};

const ALICE: UserNid = UserNid(7);

fn presence() -> (Presence, Clock, Ephemeral) {
    let pool = PgPool::connect_lazy("postgres://nowhere").unwrap();
    let (clock, ephemeral) = (Clock::mock(1_000_000), Ephemeral::new());
    let presence = Presence::new(pool, clock.clone(), ephemeral.clone(), Switch::On);
    (presence, clock, ephemeral)
}

#[tokio::test]
async fn a_user_that_syncs_is_online_and_then_idle() {
    let (presence, clock, _) = presence();
    let _syncing = presence.sync(ALICE, &PresenceState::Online).unwrap();
    let status = presence.status(ALICE);
    assert_eq!(status.state, PresenceState::Online);
    assert_eq!(status.currently_active, Some(true));

    clock.advance(Duration::from_secs(90));
    let _ = presence.expire();
    assert_eq!(presence.status(ALICE).currently_active, Some(false));

    clock.advance(Duration::from_mins(5));
    let _ = presence.expire();
    let status = presence.status(ALICE);
    assert_eq!(status.state, PresenceState::Unavailable);
    assert_eq!(status.last_active_ago, Some(Duration::from_secs(390)));
}

#[tokio::test]
async fn a_user_that_does_not_sync_any_more_goes_offline() {
    let (presence, clock, ephemeral) = presence();
    let syncing = presence.sync(ALICE, &PresenceState::Online).unwrap();
    clock.advance(Duration::from_secs(59));
    drop(syncing);
    clock.advance(Duration::from_secs(59));
    let _ = presence.expire();
    assert_eq!(presence.status(ALICE).state, PresenceState::Online);
    let seen = ephemeral.counter();

    clock.advance(Duration::from_secs(2));
    let _ = presence.expire();

    assert_eq!(presence.status(ALICE).state, PresenceState::Offline);
    assert_eq!(presence.changed_since(seen), [ALICE]);
}

#[tokio::test]
async fn what_another_server_says_is_believed_for_half_an_hour() {
    let (presence, clock, _) = presence();
    let status = Status {
        state: PresenceState::Online,
        status_msg: Some("there".to_owned()),
        last_active_ago: Some(Duration::from_secs(5)),
        currently_active: Some(true),
    };
    presence.tell(ALICE, status.clone()).unwrap();
    assert_eq!(presence.status(ALICE), status);

    clock.advance(Duration::from_mins(29));
    let _ = presence.expire();
    assert_eq!(presence.status(ALICE).state, PresenceState::Online);
    clock.advance(Duration::from_mins(1));
    let _ = presence.expire();

    assert_eq!(presence.status(ALICE).state, PresenceState::Offline);
}

#[tokio::test]
async fn what_a_client_chooses_is_seen() {
    let (presence, _, ephemeral) = presence();
    presence
        .set(ALICE, &PresenceState::Online, Some("here"))
        .unwrap();
    assert_eq!(presence.status(ALICE).status_msg.as_deref(), Some("here"));
    let seen = ephemeral.counter();

    let _syncing = presence.sync(ALICE, &PresenceState::Unavailable).unwrap();

    assert_eq!(presence.status(ALICE).state, PresenceState::Unavailable);
    assert_eq!(presence.changed_since(seen), [ALICE]);
    assert!(presence.sync(ALICE, &"busy".into()).is_err());
}

#[tokio::test]
async fn syncing_on_does_not_wake_others() {
    let (presence, _, ephemeral) = presence();
    drop(presence.sync(ALICE, &PresenceState::Online).unwrap());
    let seen = ephemeral.counter();

    drop(presence.sync(ALICE, &PresenceState::Online).unwrap());
    presence.note_active(ALICE);

    assert!(presence.changed_since(seen).is_empty());
}

#[tokio::test]
async fn activity_ends_idleness_and_nothing_else() {
    let (presence, clock, _) = presence();
    presence.note_active(ALICE);
    assert_eq!(presence.status(ALICE).state, PresenceState::Offline);
    let _syncing = presence.sync(ALICE, &PresenceState::Online).unwrap();
    clock.advance(Duration::from_mins(6));
    let _ = presence.expire();
    assert_eq!(presence.status(ALICE).state, PresenceState::Unavailable);

    presence.note_active(ALICE);

    assert_eq!(presence.status(ALICE).state, PresenceState::Online);
}

#[tokio::test]
async fn a_sync_that_asks_for_it_leaves_no_trace() {
    let (presence, _, _) = presence();

    assert!(
        presence
            .sync(ALICE, &PresenceState::Offline)
            .unwrap()
            .is_none()
    );
    assert_eq!(presence.status(ALICE).state, PresenceState::Offline);
}

#[tokio::test]
async fn what_another_server_says_is_believed_as_long_in_every_process() {
    let ((heard, _, _), (other, clock, _)) = (presence(), presence());
    let status = Status {
        state: PresenceState::Online,
        status_msg: Some("there".to_owned()),
        last_active_ago: Some(Duration::from_secs(5)),
        currently_active: Some(true),
    };
    heard.tell(ALICE, status.clone()).unwrap();
    for fact in heard.facts() {
        let Fact::Presence(fact) = fact else { continue };
        other.learn(&fact);
    }
    assert_eq!(other.status(ALICE), status);

    clock.advance(Duration::from_mins(29));
    let _ = other.expire();
    let later = other.status(ALICE);
    assert_eq!(later.state, PresenceState::Online);
    assert_eq!(later.currently_active, Some(true));
    clock.advance(Duration::from_mins(1));
    let _ = other.expire();

    assert_eq!(other.status(ALICE).state, PresenceState::Offline);
}

#[tokio::test]
async fn what_another_server_says_last_counts_in_every_process() {
    let ((heard, clock, _), (other, others_clock, _)) = (presence(), presence());
    let says = |state| Status {
        state,
        status_msg: None,
        last_active_ago: None,
        currently_active: None,
    };
    for state in [PresenceState::Online, PresenceState::Unavailable] {
        heard.tell(ALICE, says(state)).unwrap();
        for fact in heard.facts() {
            let Fact::Presence(fact) = fact else { continue };
            other.learn(&fact);
        }
        clock.advance(Duration::from_secs(1));
        others_clock.advance(Duration::from_secs(1));
    }

    assert_eq!(other.status(ALICE).state, PresenceState::Unavailable);
}
