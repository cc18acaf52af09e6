//! From a send to the sync of the last member.
//!
//! Each sender has one message under way. It sends the next when every receiver has seen the last
//! in an answer of /sync, so a server wins nothing by letting its readers wait.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::Bench;
use crate::{
    client::{Client, Poll, User},
    error::BenchError,
    measure::{Failures, Outcome},
    scan::{self, Mark},
    stage::parallel,
};

/// How long a poll lasts when nothing happens.
const POLL: Duration = Duration::from_secs(10);

/// After this long a message is taken for lost.
const LOST: Duration = Duration::from_secs(40);

/// A poll that went on this much longer than it took to acknowledge a message was not woken.
const GRACE: Duration = Duration::from_secs(1);

/// One sender and one receiver in each room.
pub(super) async fn latency(bench: &mut Bench) -> Result<Vec<Outcome>, BenchError> {
    let count = bench.sizes.senders;
    let users = bench.stage.users(2 * count).await?;
    let members: Vec<_> = users.chunks(2).map(<[_]>::to_vec).collect();
    let rooms = bench.stage.rooms(&members).await?;
    let rooms = rooms.into_iter().zip(&members).map(|(id, members)| Room {
        id,
        senders: members[..1].to_vec(),
        receivers: members[1..].to_vec(),
    });
    let plan = Plan {
        name: format!("latency, {count} pairs"),
        rooms: rooms.collect(),
    };
    Ok(vec![drive(bench, plan).await?])
}

/// Many rooms whose members are all syncing, with one message at a time in each.
pub(super) async fn fanout(bench: &mut Bench) -> Result<Vec<Outcome>, BenchError> {
    let (count, size) = (bench.sizes.senders, bench.sizes.members);
    let users = bench.stage.users(count * size).await?;
    let members: Vec<_> = users.chunks(size).map(<[_]>::to_vec).collect();
    let rooms = bench.stage.rooms(&members).await?;
    let rooms = rooms.into_iter().zip(members).map(|(id, members)| Room {
        id,
        senders: members[..1].to_vec(),
        receivers: members,
    });
    let name = format!("fanout, {count} rooms of {size}");
    Ok(vec![
        drive(
            bench,
            Plan {
                name,
                rooms: rooms.collect(),
            },
        )
        .await?,
    ])
}

/// One room with many members that are all syncing, some of them sending.
pub(super) async fn hot_room(bench: &mut Bench) -> Result<Vec<Outcome>, BenchError> {
    let mut outcomes = Vec::new();
    for size in bench.sizes.hot_members.clone() {
        let members = bench.stage.users(size).await?;
        let rooms = bench.stage.rooms(std::slice::from_ref(&members)).await?;
        let senders = members[..bench.sizes.senders.min(size)].to_vec();
        let rooms = rooms.into_iter().map(|id| Room {
            id,
            senders: senders.clone(),
            receivers: members.clone(),
        });
        let name = format!("hot-room, {size} syncing");
        outcomes.push(
            drive(
                bench,
                Plan {
                    name,
                    rooms: rooms.collect(),
                },
            )
            .await?,
        );
    }
    Ok(outcomes)
}

/// Who sends and who listens.
#[derive(Debug)]
struct Plan {
    name: String,
    rooms: Vec<Room>,
}

#[derive(Debug)]
struct Room {
    id: String,
    senders: Vec<Arc<User>>,
    receivers: Vec<Arc<User>>,
}

async fn drive(bench: &Bench, plan: Plan) -> Result<Outcome, BenchError> {
    let board = Arc::new(Board::new(&plan));
    let mut receivers = listen(bench, &plan, &board).await?;

    let probe = bench.probe()?;
    let (begin, deadline) = (Instant::now(), bench.deadline());
    let slots = plan.rooms.iter().flat_map(|room| {
        room.senders
            .iter()
            .map(|user| (room.id.clone(), bench.stage.client(user)))
    });
    let slots: Vec<_> = slots.collect();
    let count = bench.sizes.operations / u32::try_from(slots.len()).unwrap_or(u32::MAX).max(1);
    let mut senders = JoinSet::new();
    for (slot, (room, client)) in (0..).zip(slots) {
        let board = Arc::clone(&board);
        senders.spawn(async move { board.send_until(client, &room, slot, deadline, count).await });
    }
    let completed: u32 = senders.join_all().await.into_iter().sum();
    let took = begin.elapsed();
    let outcome = Outcome {
        scenario: plan.name,
        unit: "messages".to_owned(),
        ..Outcome::default()
    };
    let mut outcome = bench.finish(probe, outcome)?;
    receivers.shutdown().await;

    let mut tally = std::mem::take(&mut *board.tally());
    let deliveries = u32::try_from(tally.latencies.len()).unwrap_or(u32::MAX);
    outcome.count(
        completed as usize,
        took,
        std::mem::take(&mut tally.latencies),
    );
    outcome.errors = tally.failures.count;
    outcome.first_error = tally.failures.first;
    outcome.missed_wakeups = Some(tally.missed);
    outcome.figures.insert(
        "deliveries/s".to_owned(),
        f64::from(deliveries) / took.as_secs_f64(),
    );
    outcome
        .figures
        .insert("messages lost".to_owned(), tally.lost.into());
    Ok(outcome)
}

/// Lets every receiver catch up and then wait for news, until the set is shut down.
async fn listen(bench: &Bench, plan: &Plan, board: &Arc<Board>) -> Result<JoinSet<()>, BenchError> {
    let mut first = 0;
    let mut waiting = Vec::new();
    for room in &plan.rooms {
        let slots = first..first + room.senders.len();
        first = slots.end;
        for user in &room.receivers {
            waiting.push((bench.stage.client(user), slots.clone()));
        }
    }
    let timeline = Some(50);
    let ready = parallel(waiting, |(mut client, slots)| async move {
        let poll = Poll {
            since: None,
            timeout: Duration::ZERO,
            timeline,
        };
        let (_, since) = client.sync(poll).await?;
        Ok(Receiver {
            client,
            since,
            timeline,
            first: slots.start,
            seen: vec![0; slots.len()],
        })
    });
    let mut receivers = JoinSet::new();
    for receiver in ready.await? {
        receivers.spawn(receiver.listen(Arc::clone(board)));
    }
    Ok(receivers)
}

/// A member who waits for messages.
#[derive(Debug)]
struct Receiver {
    client: Client,
    since: String,
    timeline: Option<u32>,
    /// The first of the slots of this room.
    first: usize,
    /// The number of the last message seen of each slot of this room.
    seen: Vec<u32>,
}

impl Receiver {
    async fn listen(mut self, board: Arc<Board>) {
        loop {
            let begin = Instant::now();
            let poll = Poll {
                since: Some(&self.since),
                timeout: POLL,
                timeline: self.timeline,
            };
            match self.client.sync(poll).await {
                Ok((body, next)) => {
                    let now = Instant::now();
                    if now.duration_since(begin) >= POLL.mul_f64(0.95) {
                        self.count_missed(&board, now);
                    }
                    self.since = next;
                    for mark in scan::marks(&body) {
                        self.note(&board, mark, now);
                    }
                }
                Err(error) => {
                    board.tally().failures.note(&error);
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn note(&mut self, board: &Board, mark: Mark, now: Instant) {
        let slot = mark.slot as usize;
        let seen = slot
            .checked_sub(self.first)
            .and_then(|n| self.seen.get_mut(n));
        if let Some(seen) = seen
            && *seen < mark.number
        {
            *seen = mark.number;
            board.delivered(slot, mark.number, now);
        }
    }

    /// Takes note if this poll slept through a message.
    fn count_missed(&self, board: &Board, now: Instant) {
        let missed = self.seen.iter().enumerate().any(|(n, seen)| {
            let slot = board.slot(self.first + n);
            slot.number > *seen
                && slot
                    .acknowledged
                    .is_some_and(|at| now.duration_since(at) > GRACE)
        });
        if missed {
            board.tally().missed += 1;
        }
    }
}

/// What senders and receivers know of each other.
#[derive(Debug)]
struct Board {
    slots: Vec<(Mutex<Slot>, Notify)>,
    tally: Mutex<Tally>,
}

/// The message that a sender has under way.
#[derive(Debug)]
struct Slot {
    receivers: usize,
    /// Its number, from 1.
    number: u32,
    sent: Instant,
    acknowledged: Option<Instant>,
    /// How many have not seen it yet.
    remaining: usize,
}

/// What was counted.
#[derive(Debug, Default)]
struct Tally {
    latencies: Vec<Duration>,
    failures: Failures,
    missed: u32,
    lost: u32,
}

impl Board {
    fn new(plan: &Plan) -> Self {
        let slots = plan.rooms.iter().flat_map(|room| {
            room.senders.iter().map(|_| {
                let slot = Slot {
                    receivers: room.receivers.len(),
                    number: 0,
                    sent: Instant::now(),
                    acknowledged: None,
                    remaining: 0,
                };
                (Mutex::new(slot), Notify::new())
            })
        });
        Self {
            slots: slots.collect(),
            tally: Mutex::default(),
        }
    }

    fn slot(&self, slot: usize) -> MutexGuard<'_, Slot> {
        self.slots[slot]
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn delivered(&self, slot: usize, number: u32, now: Instant) {
        let mut flight = self.slot(slot);
        if flight.number != number {
            return;
        }
        let latency = now.duration_since(flight.sent);
        flight.remaining -= 1;
        if flight.remaining == 0 {
            self.slots[slot].1.notify_one();
        }
        drop(flight);
        self.tally().latencies.push(latency);
    }

    /// Sends one message after the other and gives how many reached everybody.
    async fn send_until(
        &self,
        mut client: Client,
        room: &str,
        slot: u32,
        deadline: Instant,
        count: u32,
    ) -> u32 {
        let place = slot as usize;
        let mut completed = 0;
        for number in 1..=count {
            if Instant::now() >= deadline {
                break;
            }
            self.depart(place, number);
            if let Err(error) = client.send(room, &Mark { slot, number }.text()).await {
                self.tally().failures.note(&error);
                sleep(Duration::from_millis(100)).await;
                continue;
            }
            self.slot(place).acknowledged = Some(Instant::now());
            match timeout(LOST, self.arrival(place)).await {
                Ok(()) => completed += 1,
                Err(_) => self.tally().lost += 1,
            }
        }
        completed
    }

    fn depart(&self, slot: usize, number: u32) {
        let mut slot = self.slot(slot);
        slot.number = number;
        slot.sent = Instant::now();
        slot.acknowledged = None;
        slot.remaining = slot.receivers;
    }

    async fn arrival(&self, slot: usize) {
        while self.slot(slot).remaining > 0 {
            self.slots[slot].1.notified().await;
        }
    }
}
