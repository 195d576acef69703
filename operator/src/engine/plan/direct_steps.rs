//! Compares the resources managed outside CloudFormation with the manifest. Pure.

use dispatch_api::dispatch_system::{BillingMode, CapacitySpec, DriftPolicy, QueueSpec};
use dispatch_api::validate::ValidatedSystem;

use crate::cloud::ports::{ObservedTable, QueueSettings, Recovery, TableCorrection, Throughput};
use crate::engine::plan::direct_resources::{DirectFinding, DirectResources, DirectStep, QueueLook};
use crate::engine::plan::missing;
use crate::engine::plan::recreation::Blueprint;
use crate::engine::plan::template::{STREAM_VIEW, TTL_ATTRIBUTE};

/// Whether the recorded credential is the desired one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// It is, or none is desired.
    Same,
    Changed,
}

/// Compares the direct resources with the manifest. `blueprint` is what deleted resources are created from; `None` if
/// nothing may be created now.
pub fn direct_steps(
    system: &ValidatedSystem,
    parts: &DirectResources,
    credential: Credential,
    blueprint: Option<&Blueprint<'_>>,
) -> DirectFinding {
    let mut finding = DirectFinding::default();
    let mut drift = missing::steps(system, parts, blueprint, &mut finding.gone);
    if let Some(table) = &parts.table {
        drift.extend(table_step(system, table, parts.expiry.as_ref()));
        let building = |index| format!("index {index} of table {} is being built", table.name);
        finding.problems.extend(table.building.iter().map(building));
    }
    if parts.recovery == Some(Recovery::Disabled) && system.spec.table.point_in_time_recovery {
        drift.push(DirectStep::EnableRecovery);
    }
    match (system.spec.notifications.fcm.is_some(), parts.push.is_some()) {
        (true, false) => finding.steps.push(DirectStep::CreatePush),
        (true, true) if credential == Credential::Changed => finding.steps.push(DirectStep::UpdatePush),
        (false, true) => finding.steps.push(DirectStep::DeletePush),
        _ => {}
    }
    if parts.cache.as_ref().is_some_and(|group| group.endpoint.is_none()) {
        let group = &system.names.replication_group;
        finding.problems.push(format!("replication group {group} has no endpoint, because it is being changed"));
    }
    for look in &parts.queues {
        if let Some(found) = &look.settings {
            drift.extend(queue_step(look, found, wanted_queue(system, look.name)));
        }
    }
    match system.spec.drift_policy {
        DriftPolicy::Correct => finding.steps.extend(drift),
        DriftPolicy::ReportOnly => {
            finding.gone.extend(drift.iter().filter_map(missing::until_it_may_be_corrected));
            finding.reported = drift;
        }
    }
    finding
}

/// For a run that changes nothing: steps that correct drift are reported, and what they would create is gone.
pub fn only_reported(system: &ValidatedSystem, mut finding: DirectFinding) -> DirectFinding {
    let (drift, rest): (Vec<_>, Vec<_>) =
        std::mem::take(&mut finding.steps).into_iter().partition(DirectStep::corrects_drift);
    finding.gone.extend(drift.iter().filter_map(|step| missing::until_the_next_apply(system, step)));
    finding.reported.extend(drift);
    finding.problems.extend(rest.iter().map(|step| format!("pending: {step}")));
    finding
}

fn wanted_queue<'a>(system: &'a ValidatedSystem, name: &str) -> &'a QueueSpec {
    match name {
        "offers" => &system.spec.queues.offers,
        "responses" => &system.spec.queues.responses,
        _ => &system.spec.queues.notifications,
    }
}

fn differs(field: &str, is: impl std::fmt::Display, wanted: impl std::fmt::Display) -> String {
    format!("{field}: {is} instead of {wanted}")
}

fn table_step(system: &ValidatedSystem, found: &ObservedTable, expiry: Option<&Option<String>>) -> Option<DirectStep> {
    let wanted = &system.spec.table;
    let mut correction = TableCorrection::default();
    let mut differences = Vec::new();
    if found.deletion_protection != wanted.deletion_protection {
        differences.push(differs("table.deletionProtection", found.deletion_protection, wanted.deletion_protection));
        correction.deletion_protection = Some(wanted.deletion_protection);
    }
    match found.stream_view.as_deref() {
        Some(STREAM_VIEW) => {}
        // DynamoDB can enable a stream only while it is disabled.
        None => {
            differences.push(differs("table's stream", "off", STREAM_VIEW));
            correction.stream = Some(());
        }
        Some(other) => differences.push(differs("table's stream", other, STREAM_VIEW)),
    }
    if found.billing != wanted.billing.mode {
        let mode = |mode: BillingMode| if mode == BillingMode::OnDemand { "OnDemand" } else { "Provisioned" };
        differences.push(differs("table.billing.mode", mode(found.billing), mode(wanted.billing.mode)));
        let units = |capacity: &Option<CapacitySpec>| capacity.as_ref().map(|capacity| i64::from(capacity.min));
        let capacity = units(&wanted.billing.read).zip(units(&wanted.billing.write));
        let capacity = capacity.map(|(read, write)| Throughput { read, write });
        let indexes = found.keys.keys().filter(|name| !name.is_empty()).cloned().collect();
        correction.billing = Some((capacity, indexes));
    }
    if let Some(attribute) = expiry.filter(|attribute| attribute.as_deref() != Some(TTL_ATTRIBUTE)) {
        differences.push(differs("table's time to live", attribute.as_deref().unwrap_or("off"), TTL_ATTRIBUTE));
        // Another attribute would first have to be disabled, after which DynamoDB refuses changes for up to an hour.
        correction.expiry = attribute.is_none().then(|| TTL_ATTRIBUTE.to_owned());
    }
    if differences.is_empty() { None } else { Some(DirectStep::CorrectTable { correction, differences }) }
}

fn queue_step(look: &QueueLook, found: &QueueSettings, wanted: &QueueSpec) -> Option<DirectStep> {
    let mut differences = Vec::new();
    let mut compare = |what: &str, is: Option<u32>, should: u32| {
        if is != Some(should) {
            let is = is.map_or_else(|| "absent".to_owned(), |value| value.to_string());
            differences.push(differs(&format!("queues.{}.{what}", look.name), is, should));
        }
    };
    compare("retentionSeconds", Some(found.retention_seconds), wanted.retention_seconds);
    compare("visibilityTimeoutSeconds", Some(found.visibility_timeout_seconds), wanted.visibility_timeout_seconds);
    compare("maxReceiveCount", found.max_receive_count, wanted.max_receive_count);
    if found.dead_letter_arn.as_ref() != Some(&look.dead_letter_arn) {
        let is = found.dead_letter_arn.as_deref().unwrap_or("absent");
        differences.push(differs(&format!("queue {}'s dead-letter queue", look.name), is, &look.dead_letter_arn));
    }
    if differences.is_empty() {
        return None;
    }
    let settings = QueueSettings {
        retention_seconds: wanted.retention_seconds,
        visibility_timeout_seconds: wanted.visibility_timeout_seconds,
        max_receive_count: Some(wanted.max_receive_count),
        dead_letter_arn: Some(look.dead_letter_arn.clone()),
    };
    Some(DirectStep::CorrectQueue { name: look.name, url: look.url.clone(), settings, differences })
}
