//! Checks whether the resources of the stack exist.

use std::collections::BTreeMap;

use dispatch_api::validate::ValidatedSystem;
use futures::future::join_all;

use crate::cloud::ports::{PortError, PortErrorKind, Ports, Subscription};
use crate::cloud::stack::{ResourceState, StackDescription, StackResource};
use crate::engine::arn::ArnBase;
use crate::engine::plan::DirectResources;
use crate::engine::plan::existence::{Coverage, Existence, Method, Presence, ResourceCheck, due};

/// Concurrent requests for drift of single resources, each of which makes CloudFormation call the resource's service.
const CONCURRENT: usize = 4;

/// What a check needs to know.
pub(super) struct Subject<'a> {
    pub system: &'a ValidatedSystem,
    pub ports: &'a Ports,
    pub stack: &'a StackDescription,
    /// What this run has read already.
    pub parts: &'a DirectResources,
}

/// Subscriptions of each topic; `None` if the topic does not exist.
type TopicSubscriptions = BTreeMap<String, Result<Option<Vec<Subscription>>, Presence>>;

impl Subject<'_> {
    /// Lists the stack's resources and checks those that are due.
    pub(super) async fn check(&self, coverage: Coverage) -> Result<Existence, PortError> {
        let listed = match self.ports.stacks.resources(&self.stack.arn).await {
            Ok(listed) => listed,
            Err(error) if error.kind == PortErrorKind::Denied => return Ok(Existence::Denied),
            Err(error) => return Err(error),
        };
        // What an update removed from the stack, or a rollback skipped.
        let listed: Vec<StackResource> =
            listed.into_iter().filter(|resource| !resource.status.starts_with("DELETE_")).collect();
        let topics = self.topics(&listed).await?;
        let due = due(&listed, coverage);
        let mut found: BTreeMap<&str, Presence> = BTreeMap::new();
        for resource in &due {
            if let Some(presence) = self.read(resource, &topics).await? {
                found.insert(&resource.logical_id, presence);
            }
        }
        let through_stack: Vec<_> =
            due.iter().filter(|resource| !found.contains_key(resource.logical_id.as_str())).collect();
        for some in through_stack.chunks(CONCURRENT) {
            let states = join_all(some.iter().map(|resource| self.drift(resource, coverage))).await;
            for (resource, state) in some.iter().zip(states) {
                found.insert(&resource.logical_id, state?);
            }
        }
        let checks = listed.iter().filter(|resource| Method::for_type(&resource.resource_type) != Method::None);
        let presence = |resource: &StackResource| found.get(resource.logical_id.as_str()).copied();
        Ok(Existence::Checked(
            checks
                .map(|resource| ResourceCheck::new(resource, presence(resource).unwrap_or(Presence::InRotation)))
                .collect(),
        ))
    }

    async fn topics(&self, listed: &[StackResource]) -> Result<TopicSubscriptions, PortError> {
        let mut topics = TopicSubscriptions::new();
        for topic in listed.iter().filter(|resource| Method::for_type(&resource.resource_type) == Method::Topic) {
            let Some(arn) = &topic.physical_id else { continue };
            let found = match self.ports.topics.subscriptions(arn).await {
                Ok(found) => Ok(found),
                Err(error) if error.kind == PortErrorKind::Denied => Err(Presence::Denied),
                Err(error) => return Err(error),
            };
            topics.insert(arn.clone(), found);
        }
        Ok(topics)
    }

    /// Reads a resource from its own service; `None` for a type that is checked through the stack.
    async fn read(&self, resource: &StackResource, topics: &TopicSubscriptions) -> Result<Option<Presence>, PortError> {
        let names = &self.system.names;
        let Some(id) = resource.physical_id.as_deref().filter(|id| !id.is_empty()) else {
            return Ok(Some(Presence::Undetectable));
        };
        Ok(Some(match Method::for_type(&resource.resource_type) {
            Method::Table if id == names.table => presence(Ok(self.parts.table.is_some()))?,
            Method::Table => presence(self.ports.tables.table(id).await.map(|found| found.is_some()))?,
            Method::ReplicationGroup if id == names.replication_group => presence(Ok(self.parts.cache.is_some()))?,
            Method::ReplicationGroup => presence(self.ports.caches.group(id).await.map(|found| found.is_some()))?,
            Method::Queue => match self.parts.queues.iter().find(|queue| queue.url == id) {
                Some(queue) => presence(Ok(queue.settings.is_some()))?,
                None => presence(self.ports.queues.settings(id).await.map(|found| found.is_some()))?,
            },
            Method::Bucket => {
                let account = ArnBase::parse(&self.stack.arn).map(|base| base.account.to_owned()).unwrap_or_default();
                presence(self.ports.buckets.tags(id, &account).await.map(|found| found.is_some()))?
            }
            Method::Topic => match topics.get(id) {
                Some(Ok(found)) => presence(Ok(found.is_some()))?,
                Some(Err(presence)) => *presence,
                None => Presence::Undetectable,
            },
            Method::Subscription => self.subscription(topics),
            Method::Drift | Method::DriftInRotation | Method::None => return Ok(None),
        }))
    }

    /// The topic's subscription by the queue `notifications`. It may have another id than the stack's, if a person made
    /// it again.
    fn subscription(&self, topics: &TopicSubscriptions) -> Presence {
        let queue = ArnBase::parse(&self.stack.arn).map(|base| base.queue(&self.system.names.notifications_queue));
        let is_ours = |found: &Subscription| found.protocol == "sqs" && Some(&found.endpoint) == queue.as_ref();
        let mut found = topics.values().map(|topic| match topic {
            Ok(Some(subscriptions)) if subscriptions.iter().any(is_ours) => Presence::Exists,
            Ok(_) => Presence::Gone,
            Err(presence) => *presence,
        });
        found.next().unwrap_or(Presence::Undetectable)
    }

    /// Checks a resource through the stack. Only what is gone is reported of a resource in rotation, so that the status
    /// is the same in each round.
    async fn drift(&self, resource: &StackResource, coverage: Coverage) -> Result<Presence, PortError> {
        let rotates = Method::for_type(&resource.resource_type) == Method::DriftInRotation && coverage != Coverage::All;
        let state = self.ports.stacks.resource_state(&self.stack.arn, &resource.logical_id).await;
        match state {
            Ok(ResourceState::Deleted) => Ok(Presence::Gone),
            // A failure that passes fails the run, like that of any other read: the next run repeats the check.
            Err(error) if matches!(error.kind, PortErrorKind::Unavailable | PortErrorKind::Throttled) => Err(error),
            _ if rotates => Ok(Presence::InRotation),
            Ok(ResourceState::Exists) => Ok(Presence::Exists),
            Ok(ResourceState::Unknown) => Ok(Presence::Undetectable),
            Err(error) if error.kind == PortErrorKind::Denied => Ok(Presence::Denied),
            Err(error) => {
                tracing::debug!(%error, resource = resource.logical_id, "cannot check whether a resource exists");
                Ok(Presence::Undetectable)
            }
        }
    }
}

/// A failed read does not show whether the resource exists: a denied one is no check, any other fails the run.
fn presence(found: Result<bool, PortError>) -> Result<Presence, PortError> {
    match found {
        Ok(true) => Ok(Presence::Exists),
        Ok(false) => Ok(Presence::Gone),
        Err(error) if error.kind == PortErrorKind::Denied => Ok(Presence::Denied),
        Err(error) => Err(error),
    }
}
