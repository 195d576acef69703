//! Resources with another owner's tags are not changed.

use anyhow::Context as _;
use aws_sdk_cloudformation::types::Tag;
use dispatch_api::conditions::{ConditionType, Reason};
use dispatch_api::dispatch_system::DeletionPolicy;
use dispatch_operator::engine::destroy::{DestroyError, destroy};
use dispatch_operator::engine::plan::ownership::{Adoption, SYSTEM_TAG, UID_TAG};
use dispatch_operator::engine::progress::Silent;
use dispatch_operator::engine::reconcile::reconcile;
use dispatch_operator::engine::settings::Settings;

use crate::support::{Account, SEOUL, apply, condition, seoul, settings};

const FOREIGN: &str = r#"{"Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}}"#;

#[tokio::test]
async fn a_stack_that_another_client_made_under_our_name_is_not_changed() -> anyhow::Result<()> {
    let account = Account::start().await?;
    let system = seoul(SEOUL)?;
    let stacks = aws_sdk_cloudformation::Client::new(account.aws.config());
    let owner = Tag::builder().key("team").value("billing").build();
    let made = stacks.create_stack().stack_name(&system.names.stack).template_body(FOREIGN).tags(owner).send().await?;
    let before = account.ports.stacks.describe(&system.names.stack).await?.context("the stack")?;

    for adoption in [Adoption::Refuse, Adoption::Take] {
        let settings = Settings { adoption, ..settings() };
        let done = reconcile(&system, &account.ports, &settings, &mut Silent).await?;
        let (reason, message) = condition(&done, ConditionType::Stalled);
        assert_eq!(reason, Reason::OwnedByAnother);
        assert!(message.contains(made.stack_id().context("an id")?) && message.contains(SYSTEM_TAG), "{message}");
    }
    let refused = destroy(&system, &account.ports, &settings(), &mut Silent).await;
    assert!(matches!(refused, Err(DestroyError::OwnedByAnother(_))), "{refused:?}");
    assert_eq!(account.ports.stacks.describe(&system.names.stack).await?.context("the stack")?, before);
    Ok(())
}

/// `team-a` and `seoul` once had the names of `team` and `a-seoul`. The stack of the first keeps them, the second gets
/// its own, and deleting the second with all its data leaves the first as it is.
#[tokio::test]
async fn two_systems_whose_names_were_once_the_same_have_stacks_and_data_of_their_own() -> anyhow::Result<()> {
    let account = Account::start().await?;
    let named = |namespace: &str, name: &str| {
        seoul(&SEOUL.replace("  name: seoul\n", &format!("  name: {name}\n  namespace: {namespace}\n")))
    };
    let (victim, mut other) = (named("team-a", "seoul")?, named("team", "a-seoul")?);
    assert!(apply(&victim.under_former_names(), &account.ports).await?.0.is_ready());
    assert!(!apply(&victim, &account.ports).await?.0.changed, "it is found by its former name");
    other.deletion_policy = DeletionPolicy::Delete;
    assert!(apply(&other, &account.ports).await?.0.is_ready());
    let stack = |name: &'static str| account.ports.stacks.describe(name);
    assert!(stack("coactus-team-a-seoul").await?.is_some() && stack("coactus-team-a-seoul-4").await?.is_some());
    destroy(&other, &account.ports, &settings(), &mut Silent).await?;
    assert!(stack("coactus-team-a-seoul-4").await?.is_none());
    assert!(account.ports.tables.table("coactus-team-a-seoul").await?.is_some());
    assert!(!apply(&victim, &account.ports).await?.0.changed);
    Ok(())
}

#[tokio::test]
async fn a_stack_of_another_object_is_adopted_only_when_asked() -> anyhow::Result<()> {
    let account = Account::start().await?;
    let mut first = seoul(SEOUL)?;
    first.uid = Some("11111111-aaaa".to_owned());
    assert!(apply(&first, &account.ports).await?.0.is_ready());
    let mut second = first.clone();
    second.uid = Some("22222222-bbbb".to_owned());
    let (refused, events) = apply(&second, &account.ports).await?;
    assert_eq!(condition(&refused, ConditionType::Stalled).0, Reason::OwnedByAnother);
    assert_eq!(events, []);

    let adopt = Settings { adoption: Adoption::Take, ..settings() };
    let done = reconcile(&second, &account.ports, &adopt, &mut Silent).await?;
    assert!(done.is_ready() && done.changed, "{:#?}", done.status);
    let stack = account.ports.stacks.describe(&second.names.stack).await?.context("the stack")?;
    assert_eq!(stack.tags.get(UID_TAG), second.uid.as_ref());
    assert!(!apply(&second, &account.ports).await?.0.changed);
    assert_eq!(condition(&apply(&first, &account.ports).await?.0, ConditionType::Stalled).0, Reason::OwnedByAnother);
    Ok(())
}
