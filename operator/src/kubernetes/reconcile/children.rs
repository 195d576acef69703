//! Brings one object of the worker pool in line, without touching an object of another owner.
//!
//! An object that does not exist is created, and the creation fails if another client created it meanwhile. An object
//! that exists is changed only if this system controls it.

use dispatch_api::annotations::{ADOPT, ADOPTIONS};
use dispatch_api::validate::ValidatedSystem;
use kube::api::DynamicObject;
use serde_json::Value;

use crate::engine::plan::workers::holder::{Holder, holder, owners_after};
use crate::engine::plan::workers::{self, Child, ChildKind, HandOver};
use crate::engine::settings::Mode;
use crate::kubernetes::infra::cluster::{Claim, Cluster, ClusterError, ClusterErrorKind, to_value};

/// What the objects of one system share.
#[derive(Clone, Copy)]
pub(super) struct Children<'a> {
    pub cluster: &'a Cluster,
    pub system: &'a ValidatedSystem,
    pub mode: Mode,
    /// Whether objects of an earlier system of this name may be taken over.
    pub takes_over: bool,
    /// Whether to look before an object is created. Without it, the attempt shows who has the name.
    pub looks_first: bool,
}

/// How one object stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Standing {
    /// It is as it should be.
    InLine,
    /// It was created or changed, and is this object now.
    Changed(Box<DynamicObject>),
    /// A dry run would change it.
    Planned,
    /// Another owner has an object of this name: what to report.
    Taken(String),
}

impl Children<'_> {
    /// Creates or changes one object. `listed` is the object of that name among those with the system's labels.
    pub(super) async fn settle(&self, child: &Child, listed: Option<&DynamicObject>) -> Result<Standing, ClusterError> {
        if let Some(found) = listed {
            return self.settle_found(child, found).await;
        }
        if self.looks_first
            && let Some(found) = self.named(child).await?
        {
            return self.settle_found(child, &found).await;
        }
        if self.mode == Mode::DryRun {
            return Ok(Standing::Planned);
        }
        match self.create(child).await {
            Ok(standing) => Ok(standing),
            Err(error) if error.kind == ClusterErrorKind::Conflict => match self.named(child).await? {
                Some(found) => self.settle_found(child, &found).await,
                None => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    /// Creates an object. A Deployment whose replicas an autoscaler sets starts with a number that is then handed over;
    /// each step leaves a state from which the next reconcile continues.
    async fn create(&self, child: &Child) -> Result<Standing, ClusterError> {
        let namespace = &self.system.namespace;
        let Some(HandOver::Create(replicas)) = workers::hand_over(self.system, child, None) else {
            let created = self.cluster.apply(namespace, child, Claim::New).await?;
            return Ok(Standing::Changed(Box::new(created)));
        };
        let mut first = child.clone();
        first.body["spec"]["replicas"] = replicas.into();
        let created = self.cluster.apply(namespace, &first, Claim::New).await?;
        self.settle_found(child, &created).await
    }

    async fn named(&self, child: &Child) -> Result<Option<DynamicObject>, ClusterError> {
        self.cluster.child(child.kind, &self.system.namespace, &child.name).await
    }

    async fn settle_found(&self, child: &Child, found: &DynamicObject) -> Result<Standing, ClusterError> {
        let namespace = &self.system.namespace;
        match holder(self.system, found) {
            Holder::Ours => {}
            Holder::Former(_) if self.takes_over && self.mode == Mode::DryRun => return Ok(Standing::Planned),
            Holder::Former(_) if self.takes_over => {
                let owners = owners_after(self.system, found);
                self.cluster.take_over(child.kind, namespace, found, &owners).await?;
            }
            Holder::Former(whose) => {
                return Ok(Standing::Taken(format!("{}; {}", taken(child, &whose), self.consent())));
            }
            Holder::Another(whose) => {
                let action = "action required: delete or rename that object, or give the system another name";
                return Ok(Standing::Taken(format!("{}; {action}", taken(child, &whose))));
            }
        }
        let live = with_kind(child.kind, found);
        let hand_over = workers::hand_over(self.system, child, Some(&live));
        if hand_over.is_none() && !workers::differs(&child.body, &live) {
            return Ok(Standing::InLine);
        }
        if self.mode == Mode::DryRun {
            return Ok(Standing::Planned);
        }
        if let Some(HandOver::Create(replicas) | HandOver::Replicas(replicas)) = hand_over {
            self.cluster.hand_over(namespace, found, replicas).await?;
        }
        let uid = found.metadata.uid.as_deref().unwrap_or_default();
        let changed = self.cluster.apply(namespace, child, Claim::Own(uid)).await?;
        Ok(Standing::Changed(Box::new(changed)))
    }

    fn consent(&self) -> String {
        let ValidatedSystem { namespace, name, names, .. } = self.system;
        format!(
            "action required: delete that object, or take it over: an administrator sets the annotation \
             {ADOPTIONS}: {name}={namespace}/{name} on namespace {namespace}, and the system has the annotation \
             {ADOPT}: {}",
            names.stack
        )
    }
}

fn taken(child: &Child, whose: &str) -> String {
    let (_, _, kind, _) = child.kind.names();
    format!("{kind} {} belongs to {whose} and is not changed", child.name)
}

/// Adds kind and API version, which the items of a list lack.
fn with_kind(kind: ChildKind, found: &DynamicObject) -> Value {
    let resource = kind.resource();
    let mut value = to_value(found);
    value["apiVersion"] = resource.api_version.into();
    value["kind"] = resource.kind.into();
    value
}
