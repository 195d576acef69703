//! Ownership of stacks, tables and buckets, determined by their tags. Pure.
//!
//! Names are derived from namespace and name, so two clusters, or two people, can refer to the same stack. A resource
//! without the tag of this system is never changed or deleted unless a person adopts it.

use std::collections::{BTreeMap, BTreeSet};

use dispatch_api::annotations::{ADOPT, ADOPTIONS};
use dispatch_api::validate::ValidatedSystem;

use crate::cloud::stack::{Next, StackDescription, stack_name};
use crate::engine::plan::digests::TEMPLATE_DIGEST;

/// Tag with namespace and name of the system that owns a resource.
pub const SYSTEM_TAG: &str = "coactus:system";
/// Tag with the Kubernetes UID of the object that owns a stack; absent on stacks created without a cluster.
pub const UID_TAG: &str = "coactus:uid";

/// Name of the owner of a resource without [`SYSTEM_TAG`], for a consent.
pub const UNOWNED: &str = "unowned";

/// Whether stacks and data of other owners may be adopted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Adoption {
    /// No: they are reported and not changed.
    #[default]
    Refuse,
    /// From any owner: the user of the command line has the credentials of the account.
    Take,
    /// From these owners, with the consent of an administrator of the cluster.
    TakeFrom(BTreeSet<String>),
}

impl Adoption {
    fn permits(&self, owner: &str) -> bool {
        match self {
            Self::Refuse => false,
            Self::Take => true,
            Self::TakeFrom(owners) => owners.contains(owner),
        }
    }
}

/// Owner of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// This system.
    Ours,
    Another(Other),
}

/// An owner other than this system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// Value of [`SYSTEM_TAG`], or [`UNOWNED`]. A consent names it.
    pub owner: String,
    /// Description, as far as the tags allow.
    pub whose: String,
}

/// The tags of the resources of a system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    system: String,
    uid: Option<String>,
}

impl Owner {
    pub fn new(system: &ValidatedSystem) -> Self {
        Self { system: format!("{}/{}", system.namespace, system.name), uid: system.uid.clone() }
    }

    /// Value of [`SYSTEM_TAG`]: namespace and name.
    pub fn system(&self) -> &str {
        &self.system
    }

    /// Owner of a stack. A stack that only a change set created contains no resources and may have no tags.
    pub fn of_stack(&self, stack: &StackDescription) -> Ownership {
        if stack.state.next() == Next::Create && stack.tags.is_empty() {
            return Ownership::Ours;
        }
        match (&self.uid, stack.tags.get(UID_TAG)) {
            (Some(ours), Some(found)) if ours != found && self.of_data(&stack.tags) == Ownership::Ours => {
                let whose = format!("another object of the same name (uid {found})");
                Ownership::Another(Other { owner: self.system.clone(), whose })
            }
            _ => self.of_data(&stack.tags),
        }
    }

    /// Owner of a retained table or bucket. It outlives the object that created it, so the UID does not count.
    pub fn of_data(&self, tags: &BTreeMap<String, String>) -> Ownership {
        match tags.get(SYSTEM_TAG) {
            Some(found) if *found == self.system => Ownership::Ours,
            Some(found) => Ownership::Another(Other { owner: found.clone(), whose: format!("system {found}") }),
            None => {
                let whose = format!("an unknown owner (it has no tag {SYSTEM_TAG})");
                Ownership::Another(Other { owner: UNOWNED.to_owned(), whose })
            }
        }
    }

    /// Why this stack must not be changed; `None` if it may be. Only a stack created from this program's template can
    /// be adopted; the resources of any other stack would be replaced one by one.
    pub fn refusal(&self, stack: &StackDescription, adoption: &Adoption) -> Option<String> {
        let Ownership::Another(other) = self.of_stack(stack) else { return None };
        let refusal = format!("stack {} belongs to {} and is neither changed nor deleted", stack.arn, other.whose);
        if !adoption.permits(&other.owner) {
            let stack = stack_name(&stack.arn).unwrap_or(&stack.arn);
            return Some(format!("{refusal}; {}", self.way_to_adopt(stack, &other)));
        }
        let is_of_ours = stack.outputs.contains_key(TEMPLATE_DIGEST);
        (!is_of_ours)
            .then(|| format!("{refusal}; it cannot be adopted: it was not created from this program's template"))
    }

    /// Why retained data must not be imported; `None` if it may be. `what` names it.
    pub fn refusal_of_data(
        &self,
        what: &str,
        tags: &BTreeMap<String, String>,
        stack: &str,
        adoption: &Adoption,
    ) -> Option<String> {
        let Ownership::Another(other) = self.of_data(tags) else { return None };
        (!adoption.permits(&other.owner))
            .then(|| format!("{what} exists and belongs to {}; {}", other.whose, self.way_to_adopt(stack, &other)))
    }

    /// How a person takes something over. In a cluster it needs two annotations, of which one is an administrator's.
    fn way_to_adopt(&self, stack: &str, other: &Other) -> String {
        let (namespace, name) = self.system.split_once('/').unwrap_or(("default", &self.system));
        let owner = &other.owner;
        format!(
            "to take it over, use --adopt or, in a cluster, set the annotation {ADOPT}: {stack} on the system, with the \
             consent of an administrator: annotation {ADOPTIONS}: {name}={owner} on namespace {namespace}"
        )
    }

    /// The ownership tags of a stack. Without a cluster, an existing UID is preserved.
    pub fn tags(&self, found: Option<&StackDescription>) -> BTreeMap<String, String> {
        let kept = found.filter(|stack| self.of_stack(stack) == Ownership::Ours).and_then(|s| s.tags.get(UID_TAG));
        let uid = self.uid.as_ref().or(kept).map(|uid| (UID_TAG.to_owned(), uid.clone()));
        [(SYSTEM_TAG.to_owned(), self.system.clone())].into_iter().chain(uid).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{stack_in, system};

    fn tagged(tags: &[(&str, &str)]) -> StackDescription {
        let tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        StackDescription { tags, ..stack_in("CREATE_COMPLETE") }
    }

    #[test]
    fn a_stack_is_ours_by_its_tags_alone() {
        let owner = Owner::new(&system());
        assert_eq!(owner.of_stack(&tagged(&[(SYSTEM_TAG, "default/seoul")])), Ownership::Ours);
        for tags in [&[][..], &[("team", "x")], &[(SYSTEM_TAG, "default/busan")], &[(UID_TAG, "1")]] {
            assert!(matches!(owner.of_stack(&tagged(tags)), Ownership::Another(_)), "{tags:?}");
        }
        let empty = StackDescription { tags: BTreeMap::new(), ..stack_in("REVIEW_IN_PROGRESS") };
        assert_eq!(owner.of_stack(&empty), Ownership::Ours);
    }

    #[test]
    fn an_object_of_the_same_name_in_another_cluster_is_another() {
        let mut system = system();
        system.uid = Some("here".to_owned());
        let owner = Owner::new(&system);
        let theirs = tagged(&[(SYSTEM_TAG, "default/seoul"), (UID_TAG, "there")]);
        assert!(matches!(owner.of_stack(&theirs), Ownership::Another(other) if other.whose.contains("there")));
        assert_eq!(owner.of_data(&theirs.tags), Ownership::Ours, "data outlives the object");
        assert_eq!(owner.of_stack(&tagged(&[(SYSTEM_TAG, "default/seoul")])), Ownership::Ours);
        assert_eq!(owner.tags(None).get(UID_TAG).map(String::as_str), Some("here"));
    }

    #[test]
    fn without_a_cluster_the_uid_on_the_stack_stays() {
        let owner = Owner::new(&system());
        let found = tagged(&[(SYSTEM_TAG, "default/seoul"), (UID_TAG, "there")]);
        assert_eq!(owner.tags(Some(&found)).get(UID_TAG).map(String::as_str), Some("there"));
    }

    #[test]
    fn only_a_stack_of_our_template_can_be_adopted() {
        let owner = Owner::new(&system());
        let mut stack = tagged(&[]);
        assert!(owner.refusal(&stack, &Adoption::Refuse).is_some_and(|text| text.contains("use --adopt")));
        assert!(owner.refusal(&stack, &Adoption::Take).is_some_and(|text| text.contains("cannot be adopted")));
        stack.outputs.insert(TEMPLATE_DIGEST.to_owned(), "d".to_owned());
        assert_eq!(owner.refusal(&stack, &Adoption::Take), None);
    }

    #[test]
    fn a_consent_counts_for_the_owner_it_names() {
        let mut system = system();
        system.uid = Some("here".to_owned());
        let owner = Owner::new(&system);
        let from = |owners: &[&str]| Adoption::TakeFrom(owners.iter().map(|owner| (*owner).to_owned()).collect());
        let ours = [(SYSTEM_TAG, "default/seoul"), (UID_TAG, "there")];
        for (tags, key) in [
            (&ours[..], "default/seoul"),
            (&[(SYSTEM_TAG, "team-a/seoul")], "team-a/seoul"),
            (&[("team", "x")], UNOWNED),
        ] {
            let mut stack = tagged(tags);
            stack.outputs.insert(TEMPLATE_DIGEST.to_owned(), "d".to_owned());
            assert_eq!(owner.refusal(&stack, &from(&[key, "another"])), None, "{key}");
            for not in [from(&[]), from(&["another"]), Adoption::Refuse] {
                let text = owner.refusal(&stack, &not).expect("refused");
                assert!(text.contains(&format!("seoul={key} on namespace default")), "{text}");
                assert!(text.contains("adopt: coactus-default-seoul on the system"), "{text}");
            }
        }
    }
}
