//! Names of the AWS resources and of the worker objects of a system. They are pure functions of namespace, name and
//! spec, so that another operator, or the same one after a crash, refers to the same resources.
//!
//! The names are injective: two systems never have a name of one service in common, and every name is readable.

use crate::dispatch_system::DispatchSystemSpec;

pub use crate::object_names::role_object;

/// The roles of the runtime, as in `--role` and in the names of their Deployments and Services.
pub const ROLES: [&str; 4] = ["save-dispatch", "dispatch-algorithm", "driver-response", "status-update"];

/// The Deployment that runs all roles, in the layout `Combined`.
pub const COMBINED: &str = "workers";

/// What has an IAM role and a service account of its own: each role in the layout `Split`, and all roles together in
/// the layout `Combined`.
pub const IDENTITIES: [&str; 5] = [ROLES[0], ROLES[1], ROLES[2], ROLES[3], COMBINED];

/// The names of one system. Export bucket and IAM roles are named in the template, because their names contain account
/// and region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceNames {
    /// Prefix of all other names, see [`ResourceNames::prefix`].
    pub prefix: String,
    /// Name of the CloudFormation stack.
    pub stack: String,
    /// Name of the DynamoDB single table.
    pub table: String,
    /// Name of the DynamoDB table of stream leases.
    pub lease_table: String,
    /// Name of the SQS queue of offer timers.
    pub offers_queue: String,
    /// Name of the SQS queue of driver responses.
    pub responses_queue: String,
    /// Name of the SQS queue of notifications.
    pub notifications_queue: String,
    /// Name of the SNS topic of notifications.
    pub topic: String,
    /// Name of the SNS platform application for FCM.
    pub platform_application: String,
    /// Identifier of the ElastiCache replication group, at most 40 characters.
    pub replication_group: String,
}

impl ResourceNames {
    /// The prefix of all names, which is also the name of the stack: `coactus-<namespace>-<name>`, followed by the
    /// length of the namespace if namespace or name contains a dash.
    ///
    /// The length shows where the namespace ends: `team` and `a-seoul` have another prefix than `team-a` and `seoul`.
    /// Without dashes this is clear. No prefix is another prefix followed by a suffix that the names below
    /// append, because a prefix with more than two dashes ends with a number.
    pub fn prefix(namespace: &str, name: &str) -> String {
        let plain = Self::former_prefix(namespace, name);
        if namespace.contains('-') || name.contains('-') { format!("{plain}-{}", namespace.len()) } else { plain }
    }

    /// The prefix of stacks made by versions that did not append the length.
    pub fn former_prefix(namespace: &str, name: &str) -> String {
        format!("coactus-{namespace}-{name}")
    }

    /// Derives all names.
    pub fn new(namespace: &str, name: &str, spec: &DispatchSystemSpec) -> Self {
        Self::with_prefix(Self::prefix(namespace, name), spec)
    }

    /// The names that an earlier version derived; `None` if they are the same.
    pub fn former(namespace: &str, name: &str, spec: &DispatchSystemSpec) -> Option<Self> {
        let former = Self::former_prefix(namespace, name);
        (former != Self::prefix(namespace, name)).then(|| Self::with_prefix(former, spec))
    }

    fn with_prefix(prefix: String, spec: &DispatchSystemSpec) -> Self {
        let table = spec.table.name.clone().unwrap_or_else(|| prefix.clone());
        Self {
            stack: prefix.clone(),
            lease_table: format!("{table}-leases"),
            table,
            offers_queue: format!("{prefix}-offers"),
            responses_queue: format!("{prefix}-responses"),
            notifications_queue: format!("{prefix}-notifications"),
            topic: format!("{prefix}-notifications"),
            platform_application: format!("{prefix}-fcm"),
            replication_group: prefix.clone(),
            prefix,
        }
    }

    /// Whether a table name belongs to this system and to no other: the prefix, alone or followed by a dot or an
    /// underscore and more. No derived name contains either character.
    pub fn owns_table_name(&self, table: &str) -> bool {
        table.strip_prefix(&self.prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '_']))
    }
}

/// Name of the worker configuration, and of the objects of the layout `Combined`.
pub fn workers_object(system: &str) -> String {
    role_object(system, COMBINED)
}

/// Name of the Service of all routes, in the layout `Combined`.
pub fn api_object(system: &str) -> String {
    format!("{system}-api")
}

/// Name of the `ConfigMap` of the connection, if the spec sets none.
pub fn connection_object(system: &str) -> String {
    format!("{system}-connection")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    use super::*;

    fn spec() -> DispatchSystemSpec {
        let text = serde_json::json!({ "city": "seoul", "region": "ap-northeast-2", "timezone": "Asia/Seoul" });
        serde_json::from_value(text).unwrap()
    }

    /// Every name that a system has, with the service whose names must be unique.
    fn all_names(namespace: &str, name: &str) -> BTreeSet<(&'static str, String)> {
        let names = ResourceNames::new(namespace, name, &spec());
        let queue = |queue: &str| [("sqs", queue.to_owned()), ("sqs", format!("{queue}-dlq"))];
        let mut all = BTreeSet::from([
            ("cloudformation", names.stack.clone()),
            ("dynamodb", names.table.clone()),
            ("dynamodb", names.lease_table.clone()),
            ("sns", names.topic.clone()),
            ("sns application", names.platform_application.clone()),
            ("elasticache", names.replication_group.clone()),
            ("s3", format!("{}-exports-111122223333", names.prefix)),
            ("glue", names.prefix.replace('-', "_")),
            ("sqs", format!("{}-undelivered", names.notifications_queue)),
        ]);
        all.extend(
            [&names.offers_queue, &names.responses_queue, &names.notifications_queue]
                .into_iter()
                .flat_map(|name| queue(name)),
        );
        for role in ROLES {
            all.insert(("kubernetes", format!("{namespace}/{}", role_object(name, role))));
        }
        all.insert(("kubernetes", format!("{namespace}/{}", workers_object(name))));
        all.insert(("kubernetes", format!("{namespace}/{}", api_object(name))));
        all.insert(("kubernetes", format!("{namespace}/{}", connection_object(name))));
        all
    }

    /// Namespaces and names that are likely to meet: few short words, some of them suffixes of derived names.
    fn label() -> impl Strategy<Value = String> {
        let word = prop_oneof![
            Just("a"),
            Just("b"),
            Just("4"),
            Just("12"),
            Just("team"),
            Just("seoul"),
            Just("offers"),
            Just("leases"),
            Just("notifications"),
            Just("dlq"),
            Just("exports"),
            Just("workers"),
            Just("fcm"),
        ];
        prop::collection::vec(word, 1..5).prop_map(|words| words.join("-"))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

        #[test]
        fn two_systems_have_no_name_in_common(a in (label(), label()), b in (label(), label())) {
            prop_assume!(a != b);
            let (first, second) = (all_names(&a.0, &a.1), all_names(&b.0, &b.1));
            let common: Vec<_> = first.intersection(&second).collect();
            prop_assert!(common.is_empty(), "{:?} and {:?} have {:?} in common", a, b, common);
        }

        /// Every way to split one text into namespace and name, not only random pairs.
        #[test]
        fn the_splits_of_one_text_have_different_names(text in label()) {
            let dashes: Vec<usize> = text.match_indices('-').map(|(at, _)| at).collect();
            let split = |at: &usize| (&text[..*at], &text[at + 1..]);
            let names: BTreeSet<String> =
                dashes.iter().map(split).map(|(namespace, name)| ResourceNames::prefix(namespace, name)).collect();
            prop_assert_eq!(names.len(), dashes.len());
        }

        #[test]
        fn a_table_name_of_one_system_is_never_the_derived_name_of_another(
            a in (label(), label()), b in (label(), label()), more in "[._][A-Za-z0-9_.-]{0,8}"
        ) {
            prop_assume!(a != b);
            let own = ResourceNames::new(&a.0, &a.1, &spec());
            let other = ResourceNames::new(&b.0, &b.1, &spec());
            let chosen = format!("{}{more}", own.prefix);
            prop_assert!(own.owns_table_name(&chosen) && own.owns_table_name(&own.table));
            prop_assert!(!other.owns_table_name(&chosen), "{:?} {:?}", other.prefix, chosen);
            prop_assert!(![&other.table, &other.lease_table].contains(&&chosen));
        }
    }

    #[test]
    fn names_without_dashes_are_the_former_ones() {
        assert_eq!(ResourceNames::prefix("default", "seoul"), "coactus-default-seoul");
        assert_eq!(ResourceNames::former("default", "seoul", &spec()), None);
        assert_eq!(ResourceNames::prefix("team-a", "seoul"), "coactus-team-a-seoul-6");
        assert_eq!(ResourceNames::prefix("team", "a-seoul"), "coactus-team-a-seoul-4");
        let former = ResourceNames::former("team", "a-seoul", &spec()).unwrap();
        assert_eq!((former.stack.as_str(), former.table.as_str()), ("coactus-team-a-seoul", "coactus-team-a-seoul"));
    }

    #[test]
    fn only_the_own_prefix_is_a_table_name_of_the_system() {
        let names = ResourceNames::new("default", "seoul", &spec());
        for own in ["coactus-default-seoul", "coactus-default-seoul.v2", "coactus-default-seoul_rides"] {
            assert!(names.owns_table_name(own), "{own}");
        }
        for other in ["coactus-default-seoul-leases", "coactus-default-seoul2", "coactus-default-busan", "rides", ""] {
            assert!(!names.owns_table_name(other), "{other}");
        }
    }
}
