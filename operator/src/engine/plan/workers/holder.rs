//! Who holds an object of the cluster. Its controller decides, by UID; labels and names can be anybody's. Pure.

use dispatch_api::dispatch_system::{DispatchSystem, GROUP};
use dispatch_api::validate::ValidatedSystem;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource as _, ResourceExt};

use crate::engine::plan::workers::{APPLIED, MANAGED_BY, SYSTEM_LABEL};

/// Holder of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// This system controls it.
    Ours,
    /// It was made for an earlier object of this system's name, as far as it says: after a restore from a backup, or a
    /// deletion that orphaned it. It is taken over only with consent.
    Former(String),
    /// Another owner.
    Another(String),
}

/// The holder of an object, as text for people where it is not this system.
pub fn holder(system: &ValidatedSystem, found: &impl ResourceExt) -> Holder {
    match controller(found) {
        Some(owner) if system.uid.as_ref() == Some(&owner.uid) => Holder::Ours,
        Some(owner) if is_system(owner, &system.name) => {
            Holder::Former(format!("an earlier DispatchSystem {} (uid {})", owner.name, owner.uid))
        }
        Some(owner) => Holder::Another(format!("{} {}", owner.kind, owner.name)),
        None if was_made_for(system, found) => {
            Holder::Former(format!("an earlier DispatchSystem {}, which orphaned it", system.name))
        }
        None => Holder::Another("another owner: it has no controller".to_owned()),
    }
}

/// Whether the object with this UID controls another one.
pub fn is_controlled_by(uid: &str, found: &impl ResourceExt) -> bool {
    controller(found).is_some_and(|owner| owner.uid == uid)
}

/// The owner references with which this system controls an object that an earlier one controlled.
pub fn owners_after(system: &ValidatedSystem, found: &impl ResourceExt) -> Vec<OwnerReference> {
    let others = found.owner_references().iter().filter(|owner| owner.controller != Some(true)).cloned();
    others.chain(owner_reference(system)).collect()
}

/// The reference to this system in its objects, which are deleted with it. `None` without a cluster.
pub fn owner_reference(system: &ValidatedSystem) -> Option<OwnerReference> {
    system.uid.as_ref().map(|uid| OwnerReference {
        api_version: DispatchSystem::api_version(&()).into_owned(),
        kind: DispatchSystem::kind(&()).into_owned(),
        name: system.name.clone(),
        uid: uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    })
}

fn controller(found: &impl ResourceExt) -> Option<&OwnerReference> {
    found.owner_references().iter().find(|owner| owner.controller == Some(true))
}

fn is_system(owner: &OwnerReference, name: &str) -> bool {
    let group = owner.api_version.split_once('/').map(|(group, _)| group);
    group == Some(GROUP) && owner.kind == DispatchSystem::kind(&()) && owner.name == name
}

fn was_made_for(system: &ValidatedSystem, found: &impl ResourceExt) -> bool {
    let label = |key: &str, value: &str| found.labels().get(key).is_some_and(|found| found == value);
    label(SYSTEM_LABEL, &system.name)
        && label("app.kubernetes.io/managed-by", MANAGED_BY)
        && found.annotations().contains_key(APPLIED)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;
    use crate::testing::system;

    fn ours() -> ValidatedSystem {
        ValidatedSystem { uid: Some("one".to_owned()), ..system() }
    }

    fn owned_by(owner: OwnerReference) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.owner_references = Some(vec![owner]);
        object
    }

    #[test]
    fn the_controller_decides_by_its_uid() {
        let reference = owner_reference(&ours()).expect("in a cluster");
        assert_eq!(holder(&ours(), &owned_by(reference.clone())), Holder::Ours);
        assert!(is_controlled_by("one", &owned_by(reference.clone())));
        let earlier = OwnerReference { uid: "two".to_owned(), ..reference.clone() };
        assert!(matches!(holder(&ours(), &owned_by(earlier)), Holder::Former(text) if text.contains("uid two")));
        for other in [
            OwnerReference { uid: "two".to_owned(), name: "busan".to_owned(), ..reference.clone() },
            OwnerReference { uid: "two".to_owned(), kind: "Deployment".to_owned(), ..reference.clone() },
            OwnerReference { uid: "two".to_owned(), api_version: "v1".to_owned(), ..reference.clone() },
            OwnerReference { controller: None, ..reference },
        ] {
            assert!(matches!(holder(&ours(), &owned_by(other.clone())), Holder::Another(_)), "{other:?}");
        }
        assert!(matches!(holder(&system(), &ConfigMap::default()), Holder::Another(_)));
    }

    #[test]
    fn labels_alone_make_an_object_nobodys_and_never_ours() {
        let mut object = ConfigMap::default();
        let labels = [(SYSTEM_LABEL, "seoul"), ("app.kubernetes.io/managed-by", MANAGED_BY)];
        object.metadata.labels = Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
        assert!(matches!(holder(&ours(), &object), Holder::Another(_)));
        object.metadata.annotations = Some([(APPLIED.to_owned(), "digest".to_owned())].into());
        assert!(matches!(holder(&ours(), &object), Holder::Former(_)));
    }

    #[test]
    fn a_takeover_replaces_the_controller_and_keeps_other_owners() {
        let mut object = owned_by(OwnerReference { uid: "two".to_owned(), ..owner_reference(&ours()).expect("one") });
        let other = OwnerReference { uid: "three".to_owned(), kind: "App".to_owned(), ..OwnerReference::default() };
        object.metadata.owner_references.get_or_insert_default().push(other.clone());
        let expected = vec![other, owner_reference(&ours()).expect("one")];
        assert_eq!(owners_after(&ours(), &object), expected);
    }
}
