//! `/pushrules`

use axum::{Json, extract::State};
use hearth_core::UserNid;
use hearth_push::{
    ChangeRuleError, PushRules,
    rules::{content_of, ruleset_json},
};
use ruma::{
    UserId,
    api::{
        client::push::{
            delete_pushrule, get_pushrule, get_pushrule_actions, get_pushrule_enabled,
            get_pushrules_all, get_pushrules_global_scope, set_pushrule, set_pushrule_actions,
            set_pushrule_enabled,
        },
        error::ErrorKind,
    },
};
use serde_json::Value;

use crate::{
    client::{ClientState, Requester},
    http::{Api, ApiError, Ruma},
};

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    Api::new()
        .endpoint(get_pushrules_all)
        .endpoint(get_pushrules_global_scope)
        .endpoint(get_pushrule)
        .endpoint(set_pushrule)
        .endpoint(delete_pushrule)
        .endpoint(get_pushrule_enabled)
        .endpoint(set_pushrule_enabled)
        .endpoint(get_pushrule_actions)
        .endpoint(set_pushrule_actions)
}

/// `GET /_matrix/client/*/pushrules/`
async fn get_pushrules_all(
    State(rules): State<PushRules>,
    requester: Requester,
    _: Ruma<get_pushrules_all::v3::Request>,
) -> Result<Json<Value>, ApiError> {
    let rules = rules.find(requester.user, requester.user_id()).await?;

    Ok(Json(content_of(&rules)))
}

/// `GET /_matrix/client/*/pushrules/global/`
async fn get_pushrules_global_scope(
    State(rules): State<PushRules>,
    requester: Requester,
    _: Ruma<get_pushrules_global_scope::v3::Request>,
) -> Result<Json<Value>, ApiError> {
    let rules = rules.find(requester.user, requester.user_id()).await?;

    Ok(Json(ruleset_json(&rules)))
}

/// `GET /_matrix/client/*/pushrules/global/{kind}/{ruleId}`
async fn get_pushrule(
    State(rules): State<PushRules>,
    requester: Requester,
    Ruma(request): Ruma<get_pushrule::v3::Request>,
) -> Result<Ruma<get_pushrule::v3::Response>, ApiError> {
    let rule = rules
        .find_rule(owner(&requester), request.kind, &request.rule_id)
        .await?;

    Ok(Ruma(get_pushrule::v3::Response::new(rule.into())))
}

/// `PUT /_matrix/client/*/pushrules/global/{kind}/{ruleId}`
async fn set_pushrule(
    State(rules): State<PushRules>,
    requester: Requester,
    Ruma(request): Ruma<set_pushrule::v3::Request>,
) -> Result<Ruma<set_pushrule::v3::Response>, ApiError> {
    let (after, before) = (request.after.as_deref(), request.before.as_deref());

    rules
        .insert(owner(&requester), &request.rule, after, before)
        .await?;

    Ok(Ruma(set_pushrule::v3::Response::new()))
}

/// `DELETE /_matrix/client/*/pushrules/global/{kind}/{ruleId}`
async fn delete_pushrule(
    State(rules): State<PushRules>,
    requester: Requester,
    Ruma(request): Ruma<delete_pushrule::v3::Request>,
) -> Result<Ruma<delete_pushrule::v3::Response>, ApiError> {
    rules
        .remove(owner(&requester), request.kind, &request.rule_id)
        .await?;

    Ok(Ruma(delete_pushrule::v3::Response::new()))
}

/// `GET /_matrix/client/*/pushrules/global/{kind}/{ruleId}/enabled`
async fn get_pushrule_enabled(
    State(rules): State<PushRules>,
    requester: Requester,
    Ruma(request): Ruma<get_pushrule_enabled::v3::Request>,
) -> Result<Ruma<get_pushrule_enabled::v3::Response>, ApiError> {
    let rule = rules
        .find_rule(owner(&requester), request.kind, &request.rule_id)
        .await?;

    let enabled = rule.enabled();
    Ok(Ruma(get_pushrule_enabled::v3::Response::new(enabled)))
}

/// `PUT /_matrix/client/*/pushrules/global/{kind}/{ruleId}/enabled`
async fn set_pushrule_enabled(
    State(rules): State<PushRules>,
    requester: Requester,
    Ruma(request): Ruma<set_pushrule_enabled::v3::Request>,
) -> Result<Ruma<set_pushrule_enabled::v3::Response>, ApiError> {
    let (kind, rule_id) = (request.kind, &request.rule_id);

    rules
        .set_enabled(owner(&requester), kind, rule_id, request.enabled)
        .await?;

    Ok(Ruma(set_pushrule_enabled::v3::Response::new()))
}

/// `GET /_matrix/client/*/pushrules/global/{kind}/{ruleId}/actions`
async fn get_pushrule_actions(
    State(rules): State<PushRules>,
    requester: Requester,
    Ruma(request): Ruma<get_pushrule_actions::v3::Request>,
) -> Result<Ruma<get_pushrule_actions::v3::Response>, ApiError> {
    let rule = rules
        .find_rule(owner(&requester), request.kind, &request.rule_id)
        .await?;

    let actions = rule.actions().to_vec();
    Ok(Ruma(get_pushrule_actions::v3::Response::new(actions)))
}

/// `PUT /_matrix/client/*/pushrules/global/{kind}/{ruleId}/actions`
async fn set_pushrule_actions(
    State(rules): State<PushRules>,
    requester: Requester,
    Ruma(request): Ruma<set_pushrule_actions::v3::Request>,
) -> Result<Ruma<set_pushrule_actions::v3::Response>, ApiError> {
    let (kind, rule_id) = (request.kind, &request.rule_id);

    rules
        .set_actions(owner(&requester), kind, rule_id, &request.actions)
        .await?;

    Ok(Ruma(set_pushrule_actions::v3::Response::new()))
}

fn owner(requester: &Requester) -> (UserNid, &UserId) {
    (requester.user, requester.user_id())
}

impl From<ChangeRuleError> for ApiError {
    fn from(error: ChangeRuleError) -> Self {
        match error {
            ChangeRuleError::NotFound => Self::not_found(error.to_string()),
            ChangeRuleError::Invalid(reason) => Self::invalid_param(reason),
            ChangeRuleError::UnknownNeighbour | ChangeRuleError::TooMany => {
                Self::bad_request(ErrorKind::Unknown, error.to_string())
            }
            ChangeRuleError::Write(error) => error.into(),
        }
    }
}
