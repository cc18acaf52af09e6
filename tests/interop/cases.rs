//! The cases: what each shows, and what plays it.

use std::pin::Pin;

use super::scene::Scene;

mod directory;
mod ephemeral;
mod events;
mod history;
mod identity;
mod invites;
mod joins;
mod knocks;
mod leaves;
mod outages;
mod state;
mod versions;

/// A case.
pub(crate) struct Case {
    /// The name of the function behind it, with its module.
    pub(crate) name: &'static str,
    /// What it shows, for the page.
    pub(crate) shows: &'static str,
    pub(crate) company: Company,
    pub(crate) play: fn(Scene) -> Pin<Box<dyn Future<Output = ()>>>,
}

/// Who may play on the same servers at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Company {
    Any,
    /// Nobody, since the servers are stopped or cut off.
    Alone,
}

impl Company {
    /// What the list of trials says.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Any => "",
            Self::Alone => "alone",
        }
    }
}

macro_rules! cases {
    ($($company:ident $module:ident::$name:ident: $shows:literal,)*) => {
        &[$(Case {
            name: concat!(stringify!($module), "::", stringify!($name)),
            shows: $shows,
            company: Company::$company,
            play: |scene| Box::pin($module::$name(scene)),
        }),*]
    };
}

/// All cases, in the order of the page. The host's user is Alice, the guest's Bob.
pub(crate) const CASES: &[Case] = cases! {
    Any joins::by_alias: "Bob joins a room by its alias, and both talk",
    Any joins::by_via: "Bob joins a room by its id with the help of `via`",
    Any joins::by_a_second_user: "a second user joins a room that the guest is in already",
    Any joins::again: "Bob leaves, and joins again when the room has changed",
    Any joins::refused: "Bob may not join a private room",
    Any joins::restricted: "a room lets in the members of another room, and nobody else",
    Any joins::of_many: "ten users of the guest join at once",
    Any versions::v10: "a room of version 10: join, messages, power levels",
    Any versions::v11: "a room of version 11: join, messages, power levels",
    Any versions::v12: "a room of version 12: join, messages, power levels",
    Any invites::accepted: "Alice invites Bob into a private room; he sees its name and comes",
    Any invites::rejected: "Alice invites Bob, and he declines",
    Any invites::withdrawn: "Alice withdraws an invitation",
    Any invites::by_the_guest: "Bob invites a user of the host, and a user of his own server",
    Any knocks::let_in: "Bob knocks, Alice invites him, he comes in",
    Any knocks::turned_away: "Bob knocks, Alice refuses him",
    Any knocks::taken_back: "Bob knocks and takes it back",
    Any leaves::left: "Bob leaves and hears nothing more",
    Any leaves::kicked: "Alice kicks Bob, who sees it and can come back",
    Any leaves::banned: "Alice bans Bob, who cannot come back until she lifts the ban",
    Any leaves::by_the_guest: "Bob, a moderator, kicks and bans users of the host",
    Any events::redacted: "Alice redacts a message of hers and one of Bob's, Bob one of his",
    Any events::related: "an edit, a reaction and a reply in a thread are bundled on both sides",
    Any events::at_once: "60 messages from each side at once all arrive, once",
    Any events::with_any_content: "content of every kind of JSON arrives as it was sent",
    Any state::powers: "Bob changes the room's name once Alice has given him the power",
    Any state::upgraded: "Alice upgrades the room, and Bob follows",
    Any state::closed_to_a_server: "an access list keeps the guest's messages out until it is lifted",
    Any state::profiles: "a new display name shows in the rooms of the other side",
    Any ephemeral::typing: "typing, both ways",
    Any ephemeral::receipts: "read receipts, both ways",
    Any ephemeral::presence: "presence, both ways",
    Any ephemeral::to_device: "messages to devices, both ways",
    Any directory::aliases: "an alias of the host is found, one that does not exist is not",
    Any directory::profile: "the profile of the other side's user",
    Any directory::public_rooms: "the list of the host's public rooms, and a search in it",
    Any directory::hierarchy: "a space whose rooms only the host knows",
    Any history::paged_back: "Bob comes late and pages back through what was said before",
    Any history::hidden: "what was said before Bob came stays hidden when the room wants it so",
    Any history::by_time: "Bob finds an event from before he came by its time",
    Any history::around_an_event: "the context of an event that a user of the guest looks up",
    Any identity::notary: "each server vouches for the keys of the other",
    Any identity::openid: "an OpenID token is good for the user's name",
    Alone outages::conflict: "the state of rooms of versions 10, 11 and 12 is changed on both sides while they are apart, and is the same once they are together",
    Alone outages::long_talk: "many messages on both sides while they are apart, all of which can be read afterwards",
    Alone outages::declined: "Bob declines an invitation while the host is away",
    Alone outages::guest_stopped: "the guest is stopped for a while, and catches up",
    Alone outages::host_killed: "the host is killed (-9) for a while, and catches up",
};
