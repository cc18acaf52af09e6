//! Which stages lead to the goal.

use hearth_core::config::Registration;
use serde_json::{Map, Value, json};

/// What kind of action needs authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A user changes something that a stolen access token must not suffice for.
    Account,
    /// Somebody registers.
    Registration,
}

/// A stage that this server knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The user's password.
    Password,
    /// Nothing.
    Dummy,
    /// A token with which one may register.
    RegistrationToken,
    /// Agreement to the operator's policies.
    Terms,
}

impl Stage {
    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Password => "m.login.password",
            Self::Dummy => "m.login.dummy",
            Self::RegistrationToken => "m.login.registration_token",
            Self::Terms => "m.login.terms",
        }
    }

    /// The stage with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [
            Self::Password,
            Self::Dummy,
            Self::RegistrationToken,
            Self::Terms,
        ]
        .into_iter()
        .find(|stage| stage.name() == name)
    }
}

/// The flows of an action, one of which has to be completed in its order.
#[derive(Clone, Debug)]
pub(super) struct Flows(Vec<Vec<Stage>>);

impl Flows {
    /// The flows for `purpose`; `None` when there is none.
    ///
    /// `by_token` says that there are registration tokens and that they are needed.
    pub(super) fn new(
        purpose: Purpose,
        registration: &Registration,
        by_token: bool,
    ) -> Option<Self> {
        let mut flow = match (purpose, by_token) {
            (Purpose::Account, _) => return Some(Self(vec![vec![Stage::Password]])),
            (Purpose::Registration, true) => vec![Stage::RegistrationToken],
            (Purpose::Registration, false) if registration.enabled => Vec::new(),
            (Purpose::Registration, false) => return None,
        };
        if !registration.terms.is_empty() {
            flow.push(Stage::Terms);
        }
        if flow.is_empty() {
            flow.push(Stage::Dummy);
        }
        Some(Self(vec![flow]))
    }

    /// Whether `stage` is what comes after `completed` in one of the flows.
    pub(super) fn is_next(&self, completed: &[String], stage: &str) -> bool {
        self.0.iter().any(|flow| {
            flow.iter()
                .find(|next| !completed.iter().any(|done| done == next.name()))
                .is_some_and(|next| next.name() == stage)
        })
    }

    /// Whether one of the flows is completed.
    pub(super) fn are_complete(&self, completed: &[String]) -> bool {
        let is_done = |stage: &Stage| completed.iter().any(|done| done == stage.name());
        self.0.iter().any(|flow| flow.iter().all(is_done))
    }

    /// Whether one of the flows has `stage`.
    pub(super) fn has(&self, stage: Stage) -> bool {
        self.0.iter().any(|flow| flow.contains(&stage))
    }

    /// What clients must know for some of the stages.
    pub(super) fn params(&self, registration: &Registration) -> Value {
        let mut params = Map::new();
        if self.has(Stage::Terms) {
            let policy = |(id, policy): (&String, &hearth_core::config::Policy)| {
                let text = json!({ "name": policy.name, "url": policy.url });
                let mut value = Map::new();
                value.insert("version".to_owned(), policy.version.clone().into());
                value.insert(policy.language.clone(), text);
                (id.clone(), Value::Object(value))
            };
            let policies: Map<_, _> = registration.terms.iter().map(policy).collect();
            params.insert(
                Stage::Terms.name().to_owned(),
                json!({ "policies": policies }),
            );
        }
        Value::Object(params)
    }

    pub(super) fn into_stages(self) -> Vec<Vec<Stage>> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use hearth_core::config::Policy;

    use super::*;

    fn with_terms() -> Registration {
        let policy = Policy {
            version: "1".to_owned(),
            name: "Privacy".to_owned(),
            url: "https://example.org/privacy".to_owned(),
            language: "en".to_owned(),
        };
        Registration {
            terms: [("privacy".to_owned(), policy)].into(),
            ..Registration::default()
        }
    }

    #[test]
    fn registration_is_closed_unless_something_opens_it() {
        assert!(Flows::new(Purpose::Registration, &Registration::default(), false).is_none());
    }

    #[test]
    fn stages_have_an_order() {
        let flows = Flows::new(Purpose::Registration, &with_terms(), true).unwrap();
        let token = [Stage::RegistrationToken.name().to_owned()];

        assert!(!flows.is_next(&[], "m.login.terms"));
        assert!(flows.is_next(&[], "m.login.registration_token"));
        assert!(flows.is_next(&token, "m.login.terms"));
        assert!(!flows.are_complete(&token));
    }

    #[test]
    fn the_terms_are_shown() {
        let flows = Flows::new(Purpose::Registration, &with_terms(), true).unwrap();

        let params = flows.params(&with_terms());

        let text = &params["m.login.terms"]["policies"]["privacy"]["en"];
        assert_eq!(text["url"], "https://example.org/privacy");
    }
}
