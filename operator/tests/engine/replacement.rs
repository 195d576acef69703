//! Settings that CloudFormation could change only by an impossible replacement.

use dispatch_api::conditions::ConditionType;
use dispatch_api::dispatch_system::{ExternalCacheSpec, SecretKeyRef};
use dispatch_api::validate::ValidatedSystem;
use dispatch_operator::cloud::stack::StackState;
use dispatch_operator::engine::plan::Approval;
use dispatch_operator::engine::preview::preview;
use dispatch_operator::engine::settings::Settings;
use dispatch_operator::testing::World;
use secrecy::SecretString;

use super::{STACK, apply_with, living, message, reason};

type Change = fn(&mut ValidatedSystem);

/// What can be set only when the cache is created.
const CHANGES: [(&str, Change); 3] = [
    ("KmsKeyId", |system| {
        system.spec.aws.kms_key_arn = Some("arn:aws:kms:ap-northeast-2:000000000000:key/a".to_owned());
    }),
    ("CacheSubnetGroupName", |system| system.spec.cache.subnet_ids = vec!["subnet-0a1b2c3d".to_owned()]),
    ("AuthToken", |system| {
        system.spec.cache.auth_secret_ref = Some(SecretKeyRef { name: "redis".to_owned(), key: "token".to_owned() });
    }),
];

fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.secrets.insert("redis", "token", SecretString::from("0123456789abcdef"));
    settings
}

#[tokio::test(start_paused = true)]
async fn a_change_that_would_be_rolled_back_is_refused_and_the_way_of_the_message_leads_on() {
    for (property, change) in CHANGES {
        let (world, former) = living().await;
        let mut system = former.clone();
        change(&mut system);
        let plan = preview(&system, &world.ports(), &settings()).await.expect("a plan");
        let blockage = plan.blockage.expect("a blockage");
        let done = apply_with(&world, &system, &settings()).await;
        assert_eq!(reason(&done, ConditionType::Stalled), "ReplacementImpossible", "{property}");
        let reported = message(&done, ConditionType::Ready);
        assert!(reported.starts_with(&format!("{property} of ReplicationGroup (")), "{reported}");
        assert!(reported.starts_with(&blockage.message), "{reported} and {}", blockage.message);
        assert_eq!(world.stacks.state(STACK), Some(StackState::CreateComplete), "{property}: something was executed");
        assert_eq!(world.stacks.open_change_sets(), 0, "{property}");

        // Taken back.
        assert!(apply_with(&world, &former, &settings()).await.is_ready(), "{property}");

        // Or: out with the cache, and in again.
        the_cache_leaves_and_returns(&world, &system).await;
    }
}

async fn the_cache_leaves_and_returns(world: &World, system: &ValidatedSystem) {
    let mut without = system.clone();
    without.spec.cache.external = Some(ExternalCacheSpec { url: "rediss://redis.example.com".to_owned() });
    without.spec.cache.subnet_ids = Vec::new();
    // The plan removes the cache, which the author approves.
    let approved = Settings { approval: Approval::Replacements, ..settings() };
    assert!(apply_with(world, &without, &approved).await.is_ready());
    assert!(apply_with(world, system, &settings()).await.is_ready());
}
