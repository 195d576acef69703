//! Whether names and addresses are where `spec.connection` wants them. Pure.

use dispatch_api::conditions::{ConditionStatus, ConditionType, Reason};
use dispatch_api::dispatch_system::DispatchSystemStatus;
use dispatch_api::validate::ValidatedSystem;

use crate::engine::status::Frame;
use crate::engine::status::cluster::put;

/// Reasons that wait for a person.
pub const NOT_PUBLISHED: [Reason; 2] = [Reason::NameTaken, Reason::SecretsNotWritable];

/// How the objects of the connection stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// All that is wanted is there.
    Published,
    /// The Secret is made at the next look.
    Publishing,
    /// The environment is not there yet.
    Waiting,
    /// The manifest is only observed.
    Unmanaged,
    /// Somebody else has an object of this kind and name.
    Taken(&'static str, String),
    /// The operator may not write the Secret; in the API server's words.
    Denied(String),
}

/// The connection as found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionFinding {
    /// How it stands.
    pub state: ConnectionState,
    /// Name of the Secret that is or will be ours.
    pub secret_name: Option<String>,
}

/// Adds the connection to a status. Where nothing is wanted there is no condition, unless something is in the way.
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
        let (on, reason, message) = told(&found.state);
        put(&mut status, frame.write((ConditionType::ConnectionPublished, on, reason, message)));
    }
    status.connection_secret_name = found.secret_name;
    status
}

fn told(state: &ConnectionState) -> (ConditionStatus, Reason, String) {
    match state {
        ConnectionState::Published => {
            (ConditionStatus::True, Reason::Published, "names and addresses are published".to_owned())
        }
        ConnectionState::Publishing => {
            (ConditionStatus::False, Reason::Publishing, "the Secret is being made".to_owned())
        }
        ConnectionState::Waiting => (
            ConditionStatus::False,
            Reason::WaitingForStack,
            "names and addresses are published when the stack is complete".to_owned(),
        ),
        ConnectionState::Unmanaged => (
            ConditionStatus::Unknown,
            Reason::ObserveOnly,
            "spec.managementPolicy is Observe: nothing is published".to_owned(),
        ),
        ConnectionState::Taken(kind, name) => {
            let message = format!("{kind} {name} is somebody else's and is left as it is; choose another name");
            (ConditionStatus::False, Reason::NameTaken, message)
        }
        ConnectionState::Denied(words) => {
            let message = format!("the operator may not write Secrets; install it with that right: {words}");
            (ConditionStatus::False, Reason::SecretsNotWritable, message)
        }
    }
}
