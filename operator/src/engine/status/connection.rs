//! Whether names and addresses are published as `spec.connection` asks. Pure.

use dispatch_api::conditions::{ConditionStatus, ConditionType, Reason};
use dispatch_api::dispatch_system::DispatchSystemStatus;
use dispatch_api::validate::ValidatedSystem;

use crate::engine::status::Frame;
use crate::engine::status::cluster::put;

/// Reasons that require action by a person.
pub const NOT_PUBLISHED: [Reason; 2] = [Reason::NameTaken, Reason::SecretsNotWritable];

/// State of the connection's objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    Published,
    /// The next reconcile creates the Secret.
    Publishing,
    /// The stack is not complete yet.
    Waiting,
    /// `spec.managementPolicy` is `Observe`.
    Unmanaged,
    /// Another owner has an object of this kind and name.
    Taken(&'static str, String),
    /// The operator is not permitted to write the Secret; with the API server's message.
    Denied(String),
}

/// The connection as found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionFinding {
    pub state: ConnectionState,
    /// Name of the Secret that the system owns or is about to create.
    pub secret_name: Option<String>,
}

/// Adds the connection to a status. Without `spec.connection` there is no condition, unless a conflict has to be
/// reported.
pub fn with_connection(
    mut status: DispatchSystemStatus,
    found: ConnectionFinding,
    system: &ValidatedSystem,
    frame: &Frame<'_>,
) -> DispatchSystemStatus {
    let wanted = &system.spec.connection;
    let nothing = wanted.config_map_name.is_none() && wanted.secret_name.is_none();
    let in_the_way = matches!(found.state, ConnectionState::Taken(..) | ConnectionState::Denied(_));
    if nothing && !in_the_way {
        status.conditions.retain(|c| c.type_ != ConditionType::ConnectionPublished);
    } else {
        let (on, reason, message) = condition(&found.state);
        put(&mut status, frame.write((ConditionType::ConnectionPublished, on, reason, message)));
    }
    status.connection_secret_name = found.secret_name;
    status
}

fn condition(state: &ConnectionState) -> (ConditionStatus, Reason, String) {
    match state {
        ConnectionState::Published => {
            (ConditionStatus::True, Reason::Published, "names and addresses are published".to_owned())
        }
        ConnectionState::Publishing => {
            (ConditionStatus::False, Reason::Publishing, "the Secret is being created".to_owned())
        }
        ConnectionState::Waiting => (
            ConditionStatus::False,
            Reason::WaitingForStack,
            "names and addresses are published once the stack is complete".to_owned(),
        ),
        ConnectionState::Unmanaged => (
            ConditionStatus::Unknown,
            Reason::ObserveOnly,
            "nothing is published because spec.managementPolicy is Observe".to_owned(),
        ),
        ConnectionState::Taken(kind, name) => {
            let message = format!(
                "{kind} {name} belongs to another owner and is not changed; action required: choose another name"
            );
            (ConditionStatus::False, Reason::NameTaken, message)
        }
        ConnectionState::Denied(words) => {
            let message = format!(
                "the operator is not permitted to write Secrets; action required: grant the permission: {words}"
            );
            (ConditionStatus::False, Reason::SecretsNotWritable, message)
        }
    }
}
