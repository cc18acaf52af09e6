//! What a case plays with.

use std::sync::Arc;

use super::{
    homeserver::{Homeserver, Kind},
    user::{User, talk},
};

/// The two servers of a case.
pub(crate) struct Scene {
    /// Where the room is made.
    pub(crate) host: Arc<Homeserver>,
    /// Whose users come in from elsewhere.
    pub(crate) guest: Arc<Homeserver>,
}

impl Scene {
    /// Alice, a new user of the host, and Bob, one of the guest.
    pub(crate) async fn users(&self) -> (User, User) {
        tokio::join!(self.local("alice"), self.remote("bob"))
    }

    /// A new user of the host.
    pub(crate) async fn local(&self, name: &str) -> User {
        User::register(&self.host, name).await
    }

    /// A new user of the guest.
    pub(crate) async fn remote(&self, name: &str) -> User {
        User::register(&self.guest, name).await
    }

    /// Alice and Bob in a public room of Alice's.
    pub(crate) async fn room(&self) -> (User, User, String) {
        let (alice, bob) = self.users().await;
        let room = alice.create_public().await;
        bob.join(&room, &self.host).await;
        alice.sees_member(&room, &bob, "join").await;
        (alice, bob, room)
    }

    /// Ends all connections between the servers and lets no new ones through.
    pub(crate) fn cut(&self) {
        self.host.link.cut();
        self.guest.link.cut();
    }

    /// Lets the servers reach each other again.
    pub(crate) fn mend(&self) {
        self.host.link.mend();
        self.guest.link.mend();
    }

    /// Alice and Bob talk after their servers could not reach each other.
    ///
    /// The user of Synapse talks first: as long as Synapse leaves alone a server that failed, it takes events of that
    /// server whose ancestors it would have to ask for, and forgets them.
    pub(crate) async fn talk_again(&self, room: &str, alice: &User, bob: &User) {
        match self.host.kind {
            Kind::Synapse => talk(room, alice, bob).await,
            Kind::Hearth => talk(room, bob, alice).await,
        }
    }
}
