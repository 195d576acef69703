//! Derived names are checked before anything is made.

use dispatch_api::dispatch_system::{DispatchSystem, DispatchSystemSpec, ExternalCacheSpec};
use dispatch_api::names::{ROLES, ResourceNames, role_object};
use dispatch_api::validate::ValidatedSystem;
use proptest::prelude::*;

fn system(namespace: &str, name: &str, external: bool) -> Option<ValidatedSystem> {
    let text = serde_json::json!({ "city": "seoul", "region": "ap-northeast-2", "timezone": "Asia/Seoul" });
    let mut spec: DispatchSystemSpec = serde_json::from_value(text).ok()?;
    spec.cache.external = external.then(|| ExternalCacheSpec { url: "rediss://redis.example:6379".to_owned() });
    let mut raw = DispatchSystem::new(name, spec);
    raw.metadata.namespace = Some(namespace.to_owned());
    ValidatedSystem::try_from_raw(&raw).ok()
}

fn is_label(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.ends_with('-')
}

fn assert_usable(names: &ResourceNames, external: bool) {
    assert!(is_label(&names.stack, 128), "CloudFormation: {}", names.stack);
    assert!(names.lease_table.len() <= 255, "DynamoDB: {}", names.lease_table);
    let queue = format!("{}-undelivered", names.notifications_queue);
    assert!(queue.len() <= 80, "SQS: {queue}");
    let bucket = format!("{}-exports-111122223333", names.prefix);
    assert!(is_label(&bucket, 63), "S3: {bucket}");
    if !external {
        assert!(is_label(&names.replication_group, 40), "ElastiCache: {}", names.replication_group);
        assert!(!names.replication_group.contains("--"), "ElastiCache: {}", names.replication_group);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    /// Whatever a valid system derives is accepted by the services it is sent to, in AWS and in the cluster.
    #[test]
    fn every_derived_name_of_a_valid_system_is_usable(
        namespace in "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", name in "[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?",
        external in any::<bool>()
    ) {
        if let Some(system) = system(&namespace, &name, external) {
            if system.unfit.is_none() {
                assert_usable(&system.names, external);
                for role in ROLES {
                    let service = role_object(&name, role);
                    prop_assert!(is_label(&service, 63), "Service: {}", service);
                }
            }
            assert_usable(&system.under_former_names().names, external);
        }
    }
}

#[test]
fn a_name_that_begins_with_a_digit_is_not_usable_for_a_new_system() {
    let system = system("default", "7eleven", false).expect("it is a label");
    let errors = system.unfit.map(|errors| errors.to_string());
    let expected = "metadata.name: 7eleven is not allowed: the Service name 7eleven-save-dispatch, which is derived \
                    from it, must begin with a letter";
    assert_eq!(errors.as_deref(), Some(expected));
}

#[test]
fn a_length_that_only_the_former_name_allowed_is_not_usable_for_a_new_system() {
    let long = system("n", "a-name-with-a-dash-and-29-cha", true);
    assert!(long.is_some_and(|system| system.unfit.is_none()));
    let long = system("n", "a-name-with-a-dash-and-29-cha", false).expect("39 characters");
    let errors = long.unfit.clone().map(|errors| errors.to_string()).unwrap_or_default();
    assert!(errors.contains("has 41 characters and the limit is 40; shorten name or namespace by 1"), "{errors}");
    assert_eq!(long.under_former_names().unfit, None);
}
