//! Whose a stack, a table or a bucket is, read from its tags. Pure.
//!
//! Names are derived from namespace and name, so two clusters, or two people, can mean the same stack. What does not carry this
//! system's tag is never changed or deleted, unless a person adopts it.

use std::collections::BTreeMap;

use dispatch_api::validate::ValidatedSystem;

use crate::cloud::stack::{Next, StackDescription};
use crate::engine::desired::TEMPLATE_DIGEST;

/// Tag with the namespace and name of the system that owns a resource.
pub const SYSTEM_TAG: &str = "coactus:system";
/// Tag with the Kubernetes UID of the object that owns a stack; absent on stacks made without a cluster.
pub const UID_TAG: &str = "coactus:uid";

/// Whether a stack that is somebody else's may be taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Adoption {
    /// No: it is left alone and told.
    #[default]
    Refuse,
    /// Yes: a person has said so.
    Take,
}

/// Whose something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// This system's.
    Ours,
    /// Not this system's; the text says whose, as far as its tags tell.
    Another(String),
}

/// What this system's resources are tagged with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    system: String,
    uid: Option<String>,
}

impl Owner {
    /// Of a system.
    pub fn of(system: &ValidatedSystem) -> Self {
        Self { system: format!("{}/{}", system.namespace, system.name), uid: system.uid.clone() }
    }

    /// Value of [`SYSTEM_TAG`]: namespace and name.
    pub fn system(&self) -> &str {
        &self.system
    }

    /// Whose a stack is. One that only a change set has made holds nothing yet and may have no tags.
    pub fn of_stack(&self, stack: &StackDescription) -> Ownership {
        if stack.state.next() == Next::Create && stack.tags.is_empty() {
            return Ownership::Ours;
        }
        match (&self.uid, stack.tags.get(UID_TAG)) {
            (Some(ours), Some(found)) if ours != found && self.of_data(&stack.tags) == Ownership::Ours => {
                Ownership::Another(format!("another object of the same name (uid {found})"))
            }
            _ => self.of_data(&stack.tags),
        }
    }

    /// Whose a kept table or bucket is. It outlives the object that made it, so its UID does not count.
    pub fn of_data(&self, tags: &BTreeMap<String, String>) -> Ownership {
        match tags.get(SYSTEM_TAG) {
            Some(found) if *found == self.system => Ownership::Ours,
            Some(found) => Ownership::Another(format!("system {found}")),
            None => Ownership::Another(format!("an owner unknown here (it has no tag {SYSTEM_TAG})")),
        }
    }

    /// Why this stack must be left alone; `None` when it need not be. Only a stack of this program's template can be adopted:
    /// anything else would be replaced piece by piece.
    pub fn refusal(&self, stack: &StackDescription, adoption: Adoption) -> Option<String> {
        let Ownership::Another(whose) = self.of_stack(stack) else { return None };
        let told = format!("stack {} belongs to {whose}; it is neither changed nor deleted", stack.arn);
        match adoption {
            Adoption::Refuse => Some(format!("{told}. To take it over, adopt it explicitly")),
            Adoption::Take if stack.outputs.contains_key(TEMPLATE_DIGEST) => None,
            Adoption::Take => {
                Some(format!("{told}. It cannot be adopted: it was not made from this program's template"))
            }
        }
    }

    /// The tags of ownership to put on a stack. Without a cluster the UID that is there stays.
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
        let owner = Owner::of(&system());
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
        let owner = Owner::of(&system);
        let theirs = tagged(&[(SYSTEM_TAG, "default/seoul"), (UID_TAG, "there")]);
        assert!(matches!(owner.of_stack(&theirs), Ownership::Another(text) if text.contains("there")));
        assert_eq!(owner.of_data(&theirs.tags), Ownership::Ours, "data outlives the object");
        assert_eq!(owner.of_stack(&tagged(&[(SYSTEM_TAG, "default/seoul")])), Ownership::Ours);
        assert_eq!(owner.tags(None).get(UID_TAG).map(String::as_str), Some("here"));
    }

    #[test]
    fn without_a_cluster_the_uid_on_the_stack_stays() {
        let owner = Owner::of(&system());
        let found = tagged(&[(SYSTEM_TAG, "default/seoul"), (UID_TAG, "there")]);
        assert_eq!(owner.tags(Some(&found)).get(UID_TAG).map(String::as_str), Some("there"));
    }

    #[test]
    fn only_a_stack_of_our_template_can_be_adopted() {
        let owner = Owner::of(&system());
        let mut stack = tagged(&[]);
        assert!(owner.refusal(&stack, Adoption::Refuse).is_some_and(|text| text.contains("adopt it explicitly")));
        assert!(owner.refusal(&stack, Adoption::Take).is_some_and(|text| text.contains("cannot be adopted")));
        stack.outputs.insert(TEMPLATE_DIGEST.to_owned(), "d".to_owned());
        assert_eq!(owner.refusal(&stack, Adoption::Take), None);
    }
}
