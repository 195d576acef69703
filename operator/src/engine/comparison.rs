//! How a stack compares with the desired input. Computed once for each description of the stack. Pure.

use std::collections::BTreeMap;

use dispatch_api::dispatch_system::DriftPolicy;

use crate::cloud::stack::StackDescription;
use crate::engine::plan::digests::{SECRETS_DIGEST, TEMPLATE_DIGEST};
use crate::engine::plan::indexes::IndexSteps;
use crate::engine::plan::ownership::Ownership;
use crate::engine::plan::{Credential, DirectStep, Input, Retry, StackStep, next_step};
use crate::engine::stack_input::StackInput;

/// A stack compared with the desired input.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Whether the stack has the input, belongs to this system and, if drift is to be corrected, still has its tags.
    pub input: Input,
    /// Whether the stack has the input and belongs to this system, whatever its tags.
    pub recorded: Input,
    /// Whether the stack belongs to this system and its resources are usable.
    pub is_usable: bool,
    /// Whether the secrets are those that the stack has.
    pub credential: Credential,
    /// Tags that were removed or changed: the current and the desired value of each.
    pub tag_drift: Vec<String>,
    /// Progress of the missing indexes of the stack's table; `None` if none is missing.
    pub index_steps: Option<IndexSteps>,
}

impl Comparison {
    /// Makes no call: the stack's description has everything.
    pub fn new(desired: &StackInput, found: Option<&StackDescription>) -> Self {
        let output = |key: &str| found.and_then(|stack| stack.outputs.get(key));
        let is_owned = found.is_some_and(|stack| desired.owner.of_stack(stack) == Ownership::Ours);
        let has_secrets = desired.has_secrets(output(SECRETS_DIGEST));
        let is_recorded = is_owned && has_secrets && output(TEMPLATE_DIGEST) == Some(&desired.template_digest);
        let tag_drift = found.filter(|_| is_recorded).map_or_else(Vec::new, |stack| tag_drift(desired, stack));
        let is_drifted = desired.drift_policy == DriftPolicy::Correct && !tag_drift.is_empty();
        Self {
            input: if is_recorded && !is_drifted { Input::Applied } else { Input::Different },
            recorded: if is_recorded { Input::Applied } else { Input::Different },
            is_usable: is_owned && found.is_some_and(|stack| stack.state.serves()),
            credential: if has_secrets { Credential::Same } else { Credential::Changed },
            tag_drift,
            index_steps: output(TEMPLATE_DIGEST).and_then(|record| IndexSteps::read(record)),
        }
    }

    /// The next step of the stack that was compared.
    pub fn next_step(&self, found: Option<&StackDescription>, retry: Retry) -> StackStep {
        next_step(found, self.input, retry)
    }

    /// The correction of stack tags that were changed outside CloudFormation. It propagates to the stack's resources.
    pub fn tag_step(&self) -> Option<DirectStep> {
        (!self.tag_drift.is_empty()).then(|| DirectStep::CorrectTags { differences: self.tag_drift.clone() })
    }
}

/// Tags that were removed from, or changed on, a stack that has the input. Added tags are ignored, because an
/// organisation may require them.
fn tag_drift(desired: &StackInput, stack: &StackDescription) -> Vec<String> {
    let wanted: BTreeMap<String, String> = desired.stack_tags(Some(stack));
    let differing = wanted.iter().filter(|(key, value)| stack.tags.get(*key) != Some(*value));
    differing
        .map(|(key, value)| {
            let is = stack.tags.get(key).map_or("absent", String::as_str);
            format!("tag {key}: {is} instead of {value}")
        })
        .collect()
}
