//! Finds the names under which the environment of a system exists.
//!
//! Earlier versions derived names that two systems could have in common. What they made keeps its names: the former
//! name counts if the stack, or the data that a stack retained under it, carries the ownership tag of this system.

use dispatch_api::dispatch_system::DispatchSystemStatus;
use dispatch_api::validate::ValidatedSystem;

use crate::cloud::ports::Ports;
use crate::cloud::stack::{Next, StackDescription, stack_name};
use crate::engine::error::EngineError;
use crate::engine::observe;
use crate::engine::plan::ownership::{Owner, Ownership};

/// The system under its former names, if its environment has them; `None` if the names of the system are those of the
/// environment. Makes no call where the names never differed or where the status names the stack.
pub async fn find_names(
    system: &ValidatedSystem,
    ports: &Ports,
    previous: Option<&DispatchSystemStatus>,
) -> Result<Option<Box<ValidatedSystem>>, EngineError> {
    let Some(former) = &system.former else { return Ok(None) };
    let under_former_names = || Box::new(system.under_former_names());
    if let Some(recorded) = previous.and_then(|status| status.stack_arn.as_deref()).and_then(stack_name) {
        return Ok((recorded == former.stack).then(under_former_names));
    }
    observe::guard_account(system, ports).await?;
    let owner = Owner::new(system);
    let ours = |found: Option<StackDescription>| {
        found.is_some_and(|stack| !stack.tags.is_empty() && owner.of_data(&stack.tags) == Ownership::Ours)
    };
    if ours(ports.stacks.describe(&system.names.stack).await?) {
        return Ok(None);
    }
    let is_former = ours(ports.stacks.describe(&former.stack).await?) || retained(system, ports, &owner).await?;
    Ok(is_former.then(under_former_names))
}

/// Whether a stack retained data of this system under its former name.
async fn retained(system: &ValidatedSystem, ports: &Ports, owner: &Owner) -> Result<bool, EngineError> {
    let former = system.under_former_names();
    let account = observe::account(ports, None).await?;
    let kept = observe::kept(&former, ports, &account).await?;
    // A table with a name of its own has the same name in both cases.
    let table = kept.table.filter(|_| system.spec.table.name.is_none()).map(|(_, tags)| tags);
    let bucket = kept.bucket.map(|(_, tags)| tags);
    Ok(table.into_iter().chain(bucket).any(|tags| owner.of_data(&tags) == Ownership::Ours))
}

/// Refuses to create a stack whose derived names are not usable.
pub(crate) fn refuse_unfit(system: &ValidatedSystem, found: Option<&StackDescription>) -> Result<(), EngineError> {
    let is_new = found.is_none_or(|stack| stack.state.next() == Next::Create);
    match &system.unfit {
        Some(errors) if is_new => Err(EngineError::Unfit(errors.clone())),
        _ => Ok(()),
    }
}
