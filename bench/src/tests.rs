//! All scenarios against the floor, small.

use tokio::{net::TcpListener, task::JoinSet};

use crate::{
    connection::Target,
    floor,
    measure::Outcome,
    scenario::{Bench, Scenario, Sizes},
    stage::Stage,
};

async fn play(scenario: Scenario) -> Vec<Outcome> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    server.spawn(floor::serve(listener));
    let sizes = Sizes {
        seconds: 1,
        operations: 60,
        senders: 3,
        members: 4,
        hot_members: vec![5],
        initial_rooms: vec![2, 4],
        idle_users: 6,
        history: 9,
        joins: 10,
        changes: 20,
        polls: vec![7],
    };
    let stage = Stage::new(Target::parse(&url).unwrap(), None);
    let watched = vec![format!("server={}", std::process::id()).parse().unwrap()];
    let mut bench = Bench {
        stage,
        sizes,
        watched,
        database: None,
    };
    let outcomes = bench.play(scenario).await.unwrap();
    for outcome in &outcomes {
        assert_eq!(outcome.first_error, None);
        assert_eq!(outcome.errors, 0);
        assert_eq!(outcome.missed_wakeups.unwrap_or_default(), 0);
    }
    outcomes
}

#[tokio::test]
async fn every_message_is_sent() {
    let outcomes = play(Scenario::Send).await;

    assert_eq!(outcomes.len(), 2);
    assert!(outcomes.iter().all(|outcome| outcome.operations == 60));
}

#[tokio::test]
async fn every_message_reaches_every_member() {
    for (scenario, members) in [
        (Scenario::Latency, 1.0),
        (Scenario::Fanout, 4.0),
        (Scenario::HotRoom, 5.0),
    ] {
        let outcome = play(scenario).await.remove(0);

        assert_eq!(outcome.operations, 60);
        let deliveries = outcome.figures["deliveries/s"] / outcome.rate;
        assert!(
            (deliveries - members).abs() < 0.01,
            "{scenario:?}: {deliveries}"
        );
        assert!(outcome.figures["messages lost"] < 0.5);
    }
}

#[tokio::test]
async fn syncs_and_pages_are_read() {
    assert_eq!(play(Scenario::InitialSync).await.len(), 2);
    assert!(play(Scenario::IncrementalSync).await[0].operations > 0);
    assert_eq!(play(Scenario::Messages).await[0].operations, 60);
}

#[tokio::test]
async fn memberships_change() {
    assert_eq!(play(Scenario::JoinStorm).await[0].operations, 10);
    assert_eq!(play(Scenario::Churn).await[0].operations, 30);
}

#[tokio::test]
async fn polls_wait_undisturbed() {
    let outcome = play(Scenario::Idle).await.remove(0);

    assert_eq!(outcome.operations, 7);
    assert!(outcome.figures["answered early"] < 0.5);
}
