//! What a namespace sets for its systems: what they may take over, who approves, and the deletion policy where a spec
//! sets none. The author of a system must not be able to write its namespace. Pure.

use std::collections::{BTreeMap, BTreeSet};

use dispatch_api::annotations::{
    ADOPTIONS, ALLOWED_TABLE_NAMES, APPROVAL_OF_DELETION, APPROVALS, NAMESPACE_DELETION_POLICY,
};
use dispatch_api::dispatch_system::{ApprovalPolicy, DeletionPolicy, DispatchSystemStatus};
use dispatch_api::validate::{PolicySource, ValidatedSystem};

use crate::engine::plan::Approval;
use crate::engine::plan::ownership::Adoption;
use crate::engine::plan::table_names::TableNames;
use crate::engine::settings::Approver;

/// Defaults from the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Defaults {
    /// Deletion policy where neither the spec nor the namespace sets one.
    pub deletion_policy: Option<DeletionPolicy>,
    /// Who approves plans and deletions.
    pub approver: Approver,
}

/// What the namespace of a system, and the approval of its plan, allow. The author of the system cannot give it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leave {
    /// Owners from which the system may take over resources.
    pub consents: BTreeSet<String>,
    /// Table names that it may choose besides its own.
    pub table_names: TableNames,
    /// The approval of its plan.
    pub approval: Approval,
}

impl Leave {
    /// The same for the engine.
    pub fn adoption(&self) -> Adoption {
        if self.consents.is_empty() { Adoption::Refuse } else { Adoption::TakeFrom(self.consents.clone()) }
    }
}

/// Annotations of a namespace.
pub type Annotations = BTreeMap<String, String>;

/// Owners from which a system may take over resources: those that its namespace names for it, if `asked` names the
/// system's stack.
pub fn consents(system: &ValidatedSystem, asked: Option<&str>, namespace: Option<&Annotations>) -> BTreeSet<String> {
    let is_its_stack =
        |stack: &str| stack == system.names.stack || system.former.as_ref().is_some_and(|former| stack == former.stack);
    if !asked.is_some_and(is_its_stack) {
        return BTreeSet::new();
    }
    let entries = namespace.and_then(|annotations| annotations.get(ADOPTIONS)).map(String::as_str).unwrap_or_default();
    pairs(entries).filter(|(name, _)| *name == system.name).map(|(_, owner)| owner.to_owned()).collect()
}

/// Table names that the systems of a namespace may choose besides their own.
pub fn table_names(namespace: Option<&Annotations>) -> TableNames {
    let listed = namespace.and_then(|annotations| annotations.get(ALLOWED_TABLE_NAMES));
    let names = listed.map(String::as_str).unwrap_or_default().split(',').map(str::trim);
    TableNames::Only(names.filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

/// The approval of a plan: the object's, or that of a second person where the cluster asks for one.
pub fn approval(
    system: &ValidatedSystem,
    of_the_object: Option<String>,
    namespace: Option<&Annotations>,
    defaults: Defaults,
) -> Approval {
    let given = match defaults.approver {
        Approver::Author => of_the_object,
        Approver::Second => approvals(&system.name, namespace).rfind(|what| *what != APPROVAL_OF_DELETION),
    };
    given.map_or(Approval::None, Approval::Plan)
}

/// The approval of a deletion that deletes data.
pub fn approval_of_deletion(system: &ValidatedSystem, namespace: Option<&Annotations>) -> Approval {
    let given = approvals(&system.name, namespace).find(|what| *what == APPROVAL_OF_DELETION);
    given.map_or(Approval::None, Approval::Plan)
}

/// Where the cluster asks for a second person, a spec cannot declare that its plans need no approval.
pub fn settle_approval_policy(system: &mut ValidatedSystem, defaults: Defaults) {
    if defaults.approver == Approver::Second && system.spec.approval_policy == ApprovalPolicy::Auto {
        system.spec.approval_policy = ApprovalPolicy::OnReplacement;
    }
}

fn approvals<'a>(
    name: &'a str,
    namespace: Option<&'a Annotations>,
) -> impl DoubleEndedIterator<Item = String> + use<'a> {
    let entries = namespace.and_then(|annotations| annotations.get(APPROVALS)).map(String::as_str).unwrap_or_default();
    pairs(entries).filter(move |(of, _)| *of == name).map(|(_, what)| what.to_owned())
}

/// Reads `<name>=<value>, …`. Anything else is left out: it grants nothing.
fn pairs(text: &str) -> impl DoubleEndedIterator<Item = (&str, &str)> {
    let entries = text.split(',').filter_map(|entry| entry.split_once('='));
    entries.map(|(name, value)| (name.trim(), value.trim())).filter(|(_, value)| !value.is_empty())
}

/// Resolves the deletion policy: spec, then namespace, then command line, then `Retain`. An annotation with any other
/// value than `Delete` retains the data.
pub fn settle_policy(system: &mut ValidatedSystem, namespace: Option<&Annotations>, defaults: Defaults) {
    if system.spec.deletion_policy.is_some() {
        return;
    }
    let said = namespace.and_then(|annotations| annotations.get(NAMESPACE_DELETION_POLICY));
    (system.deletion_policy, system.deletion_policy_from) = match (said.map(String::as_str), defaults.deletion_policy) {
        (Some("Delete"), _) => (DeletionPolicy::Delete, PolicySource::Namespace),
        (Some(_), _) => (DeletionPolicy::Retain, PolicySource::Namespace),
        (None, Some(policy)) => (policy, PolicySource::Operator),
        (None, None) => (DeletionPolicy::Retain, PolicySource::Default),
    };
}

/// Resolves the deletion policy of a system that is being deleted: the spec or, if it sets none, the policy that the
/// status showed before, so that a change of the namespace or the command line in the meantime deletes no data. A value
/// in the spec that cannot be parsed retains the data.
pub fn settle_policy_at_the_end(
    system: &mut ValidatedSystem,
    spec_has_a_word: bool,
    shown: Option<&DispatchSystemStatus>,
) {
    if system.spec.deletion_policy.is_none() {
        let shown = shown.and_then(|status| status.deletion_policy).filter(|_| !spec_has_a_word);
        system.deletion_policy = shown.unwrap_or(DeletionPolicy::Retain);
    }
}

#[cfg(test)]
mod tests {
    use super::DeletionPolicy::{Delete, Retain};

    use super::*;
    use crate::testing::system;

    fn annotations(pairs: &[(&str, &str)]) -> Annotations {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn settled(
        spec: Option<DeletionPolicy>,
        namespace: Option<&str>,
        flag: Option<DeletionPolicy>,
    ) -> (DeletionPolicy, PolicySource) {
        let mut system = system();
        (system.spec.deletion_policy, system.deletion_policy) = (spec, spec.unwrap_or_default());
        system.deletion_policy_from = spec.map_or(PolicySource::Default, |_| PolicySource::Spec);
        let said: Vec<_> = namespace.into_iter().map(|value| (NAMESPACE_DELETION_POLICY, value)).collect();
        let defaults = Defaults { deletion_policy: flag, ..Defaults::default() };
        settle_policy(&mut system, Some(&annotations(&said)), defaults);
        (system.deletion_policy, system.deletion_policy_from)
    }

    #[test]
    fn the_spec_takes_precedence_over_the_namespace_and_that_over_the_flag() {
        assert_eq!(settled(Some(Retain), Some("Delete"), Some(Delete)), (Retain, PolicySource::Spec));
        assert_eq!(settled(Some(Delete), Some("Retain"), None), (Delete, PolicySource::Spec));
        assert_eq!(settled(None, Some("Delete"), Some(Retain)), (Delete, PolicySource::Namespace));
        assert_eq!(
            settled(None, Some("delete?"), Some(Delete)),
            (Retain, PolicySource::Namespace),
            "a typing error retains the data"
        );
        assert_eq!(settled(None, None, Some(Delete)), (Delete, PolicySource::Operator));
        assert_eq!(settled(None, None, None), (Retain, PolicySource::Default));
    }

    #[test]
    fn a_deletion_follows_the_policy_the_status_showed_before() {
        let end = |spec: Option<DeletionPolicy>, word: bool, shown: Option<DeletionPolicy>| {
            let mut system = system();
            (system.spec.deletion_policy, system.deletion_policy) = (spec, spec.unwrap_or_default());
            let status = DispatchSystemStatus { deletion_policy: shown, ..DispatchSystemStatus::default() };
            settle_policy_at_the_end(&mut system, word, Some(&status));
            system.deletion_policy
        };
        assert_eq!(end(None, false, Some(Delete)), Delete);
        assert_eq!(end(None, false, None), Retain, "the status showed no policy");
        assert_eq!(end(Some(Retain), true, Some(Delete)), Retain);
        assert_eq!(end(None, true, Some(Delete)), Retain, "a value that cannot be parsed retains the data");
    }

    #[test]
    fn a_system_takes_over_only_what_it_asks_for_and_its_namespace_names() {
        let system = system();
        let list = |value: &str| annotations(&[(ADOPTIONS, value)]);
        let stack = Some("coactus-default-seoul");
        let given = consents(&system, stack, Some(&list("busan=a/b, seoul = team-a/seoul ,seoul=unowned")));
        assert_eq!(given.into_iter().collect::<Vec<_>>(), ["team-a/seoul", "unowned"]);
        let none: [(Option<&str>, Option<Annotations>); 7] = [
            (None, Some(list("seoul=team-a/seoul"))),
            (Some("coactus-default-busan"), Some(list("seoul=team-a/seoul"))),
            (Some("true"), Some(list("seoul=team-a/seoul"))),
            (stack, None),
            (stack, Some(Annotations::new())),
            (stack, Some(list("busan=team-a/seoul"))),
            (stack, Some(list("seoul, seoul=, =team-a/seoul, team-a/seoul, *=*"))),
        ];
        for (asked, namespace) in none {
            assert_eq!(consents(&system, asked, namespace.as_ref()), BTreeSet::new(), "{asked:?} {namespace:?}");
        }
    }

    #[test]
    fn where_a_second_person_approves_the_object_approves_nothing() {
        let mut system = system();
        let second = Defaults { approver: Approver::Second, ..Defaults::default() };
        let own = || Some("3f9c2ab41d07".to_owned());
        assert_eq!(approval(&system, own(), None, Defaults::default()), Approval::Plan("3f9c2ab41d07".to_owned()));
        assert_eq!(approval(&system, own(), None, second), Approval::None);
        let given = |value: &str| annotations(&[(APPROVALS, value)]);
        let approved = |value: &str| approval(&system, own(), Some(&given(value)), second);
        assert_eq!(approved("busan=1, seoul = 2"), Approval::Plan("2".to_owned()));
        assert_eq!(approved("seoul=2,seoul=3,seoul=delete"), Approval::Plan("3".to_owned()), "the last one counts");
        for none in ["", "busan=2", "seoul=", "seoul=delete", "2", "*=2"] {
            assert_eq!(approved(none), Approval::None, "{none}");
        }
        let deletion = |value: &str| approval_of_deletion(&system, Some(&given(value)));
        assert_eq!(deletion("seoul=2,seoul=delete"), Approval::Plan(APPROVAL_OF_DELETION.to_owned()));
        for none in ["seoul=Delete", "seoul=2", "busan=delete"] {
            assert_eq!(deletion(none), Approval::None, "{none}");
        }
        system.spec.approval_policy = ApprovalPolicy::Auto;
        settle_approval_policy(&mut system, Defaults::default());
        assert_eq!(system.spec.approval_policy, ApprovalPolicy::Auto);
        settle_approval_policy(&mut system, second);
        assert_eq!(system.spec.approval_policy, ApprovalPolicy::OnReplacement);
    }

    #[test]
    fn a_namespace_lists_the_table_names_that_are_not_the_systems_own() {
        let names = |value: &str| table_names(Some(&annotations(&[(ALLOWED_TABLE_NAMES, value)])));
        assert_eq!(names(" rides , legacy,"), TableNames::Only(["rides", "legacy"].map(str::to_owned).into()));
        assert_eq!(table_names(None), TableNames::Only(BTreeSet::new()));
    }
}
