//! Plays the cases.

use std::{
    process::ExitCode,
    sync::{Arc, LazyLock},
};

use libtest_mimic::{Arguments, Trial};
use tokio::{runtime::Runtime, sync::RwLock};

use super::{
    cases::{CASES, Case, Company},
    homeserver::Kind,
    large_room, page,
    stage::{Host, Stage},
};

/// Cases mostly wait.
const AT_ONCE: usize = 8;

/// Who plays when `INTEROP_SERVERS` does not say otherwise.
const PLAYERS: [Kind; 2] = [Kind::Hearth, Kind::Synapse];

/// Where the cases are played.
struct House {
    /// Set when the first case wants it; all fail when that went wrong.
    stage: LazyLock<Stage, Box<dyn FnOnce() -> Stage + Send>>,
    runtime: Arc<Runtime>,
    /// Held shared by cases that do not disturb others.
    quiet: RwLock<()>,
}

/// Plays what the arguments ask for, everything without any.
pub(crate) fn play() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(AT_ONCE));
    if arguments.bench {
        let trial = Trial::bench("join_of_a_large_room", large_room::measure);
        return libtest_mimic::run(&arguments, vec![trial]).exit_code();
    }
    let players = players();
    let house = Arc::new(House::new(players));
    let mut trials = vec![Trial::test("the_page_is_true", page::check)];
    for case in CASES {
        trials.extend(house.trials(case, players));
    }
    // They would only keep others waiting.
    trials.sort_by_key(|trial| trial.kind() == Company::Alone.as_str());
    libtest_mimic::run(&arguments, trials).exit_code()
}

impl House {
    fn new(players: [Kind; 2]) -> Self {
        let runtime = Arc::new(Runtime::new().unwrap());
        let builder = Arc::clone(&runtime);
        Self {
            stage: LazyLock::new(Box::new(move || builder.block_on(Stage::set(players)))),
            runtime,
            quiet: RwLock::default(),
        }
    }

    /// The trials of a case: each server is the host once.
    fn trials(self: &Arc<Self>, case: &'static Case, [first, second]: [Kind; 2]) -> Vec<Trial> {
        let mut hosts = vec![(first, Host::First)];
        if first != second {
            hosts.push((second, Host::Second));
        }
        let trial = |(kind, host)| {
            let house = Arc::clone(self);
            let play = move || {
                house.play(case, host);
                Ok(())
            };
            Trial::test(format!("{}::{kind}_hosts", case.name), play)
                .with_kind(case.company.as_str())
        };
        hosts.into_iter().map(trial).collect()
    }

    fn play(&self, case: &Case, host: Host) {
        let scene = self.stage.scene(host);
        self.runtime.block_on(async {
            match case.company {
                Company::Any => {
                    let _quiet = self.quiet.read().await;
                    (case.play)(scene).await;
                }
                Company::Alone => {
                    let _quiet = self.quiet.write().await;
                    (case.play)(scene).await;
                }
            }
        });
    }
}

/// Reads `INTEROP_SERVERS`, two names such as `synapse synapse`.
fn players() -> [Kind; 2] {
    let Ok(names) = std::env::var("INTEROP_SERVERS") else {
        return PLAYERS;
    };
    let kinds: Vec<_> = names
        .split_whitespace()
        .map(|name| match name {
            "hearth" => Kind::Hearth,
            "synapse" => Kind::Synapse,
            name => panic!("INTEROP_SERVERS: {name} is neither hearth nor synapse"),
        })
        .collect();
    <[Kind; 2]>::try_from(kinds).expect("INTEROP_SERVERS names two servers")
}
