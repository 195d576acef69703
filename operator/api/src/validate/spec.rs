//! Formats of strings and rules between fields, group by group.

use std::collections::BTreeSet;

use dispatch_core::fare::{FareError, FareTable, NightSurcharge};
use dispatch_core::policy::{self, DispatchPolicy, MatchingPolicy, PolicyError, PresencePolicy, RidePolicy};
use jiff::tz::TimeZone;

use super::errors::Findings;
use super::{eta, requests, routing, text, workers};
use crate::dispatch_system::{
    AuthSpec, AwsSpec, BillingMode, CacheSpec, ClaimsSpec, ConnectionSpec, DispatchSpec, DispatchSystemSpec,
    ExportSpec, ExportType, FareSpec, GatewaySpec, MatchingMode, QUERY_RESULTS_PREFIX, QueuesSpec, SecretKeyRef,
    TableSpec, UpstreamSpec,
};
use crate::names::{self, ResourceNames};
use crate::schedule::Schedule;

/// Maximum length of an ElastiCache replication group identifier.
const REPLICATION_GROUP_LEN_MAX: usize = 40;
/// Maximum length of an SQS queue name.
const QUEUE_LEN_MAX: usize = 80;
/// Maximum length of a CloudFormation stack name.
const STACK_LEN_MAX: usize = 128;
/// Maximum length of an S3 bucket name.
const BUCKET_LEN_MAX: usize = 63;
/// Maximum length of a Service name, a DNS label.
const SERVICE_LEN_MAX: usize = 63;
/// Length of the suffix of the bucket name: `-exports-` and the account id.
const BUCKET_SUFFIX_LEN: usize = "-exports-".len() + 12;
/// Length of the suffix of the longest queue name, that of notifications that SNS could not deliver.
const QUEUE_SUFFIX_LEN: usize = "-notifications-undelivered".len();

/// Checks namespace and name of the object, and the names that are derived from them. The result has the errors that
/// matter only for a system without a stack: an earlier version allowed such names, and what exists keeps its names.
pub(super) fn check_names(namespace: &str, name: &str, spec: &DispatchSystemSpec, found: &mut Findings) -> Findings {
    const LABEL: &str = "1 to 63 lower-case letters, digits and inner dashes";
    found.at("metadata.namespace").require(text::is_dns_label(namespace, 63), namespace, LABEL);
    found.at("metadata.name").require(text::is_dns_label(name, 63), name, LABEL);
    let former = ResourceNames::former_prefix(namespace, name);
    let dashes = "without consecutive dashes, which ElastiCache rejects in an identifier";
    found.at("metadata.name").require(!former.contains("--"), name, dashes);
    let mut for_new = Findings::default();
    if !aws_names_fit(&former, name, spec, found) {
        return for_new;
    }
    aws_names_fit(&ResourceNames::prefix(namespace, name), name, spec, &mut for_new);
    kubernetes_names_fit(name, &mut for_new);
    for_new
}

/// Checks the lengths of the AWS names; their characters are those of namespace and name.
fn aws_names_fit(prefix: &str, name: &str, spec: &DispatchSystemSpec, found: &mut Findings) -> bool {
    let mut limits = vec![
        (
            "the SQS queue name",
            format!("{prefix}-notifications-undelivered"),
            prefix.len() + QUEUE_SUFFIX_LEN,
            QUEUE_LEN_MAX,
        ),
        ("the stack name", prefix.to_owned(), prefix.len(), STACK_LEN_MAX),
        ("the bucket name", format!("{prefix}-exports-<account>"), prefix.len() + BUCKET_SUFFIX_LEN, BUCKET_LEN_MAX),
    ];
    if spec.cache.external.is_none() {
        let what = "the ElastiCache replication group identifier";
        limits.insert(0, (what, prefix.to_owned(), prefix.len(), REPLICATION_GROUP_LEN_MAX));
    }
    // The first exceeded limit is the tightest one, so the others would only repeat the error.
    let Some((what, made, length, most)) = limits.into_iter().find(|(_, _, length, most)| length > most) else {
        return true;
    };
    let shorter = length - most;
    found.refuse(
        "metadata.name",
        name,
        format!(
            "{what} {made}, which is derived from it, has {length} characters and the limit is {most}; shorten name or \
             namespace by {shorter}"
        ),
    );
    false
}

/// Checks the names of the worker objects. A Service has the strictest rule: a DNS label (RFC 1035), which begins with
/// a letter.
fn kubernetes_names_fit(name: &str, found: &mut Findings) {
    for role in names::ROLES {
        let service = names::role_object(name, role);
        let length = service.len();
        if length > SERVICE_LEN_MAX {
            let shorter = length - SERVICE_LEN_MAX;
            let text = format!(
                "the Service name {service}, which is derived from it, has {length} characters and the limit is \
                 {SERVICE_LEN_MAX}; shorten it by {shorter}"
            );
            return found.refuse("metadata.name", name, text);
        }
        if !service.starts_with(|c: char| c.is_ascii_lowercase()) {
            let text = format!("the Service name {service}, which is derived from it, must begin with a letter");
            return found.refuse("metadata.name", name, text);
        }
    }
}

/// Checks everything except the bounds of the dispatch rules.
pub(super) fn check(spec: &DispatchSystemSpec, found: &mut Findings) {
    let city = "1 to 32 lower-case letters, digits and inner dashes";
    found.at("spec.city").require(text::is_dns_label(&spec.city, 32), &spec.city, city);
    let region = "an AWS region such as ap-northeast-2";
    found.at("spec.region").require(text::is_region(&spec.region), &spec.region, region);
    let known = is_time_zone(&spec.timezone);
    found.at("spec.timezone").require(known, &spec.timezone, "an IANA time zone such as Asia/Seoul");
    let currency = "three upper-case letters (ISO 4217)";
    found.at("spec.currency").require(text::is_currency(&spec.currency), &spec.currency, currency);
    let drift = spec.drift_interval_seconds;
    found.at("spec.driftIntervalSeconds").require(drift == 0 || drift >= 60, drift, "0 or 60 to 86400");

    aws(&spec.aws, &spec.region, found);
    table(&spec.table, found);
    queues(&spec.queues, spec.dispatch.offer_timeout_seconds, found);
    for (path, reference) in spec.secret_refs() {
        secret(path, reference, found);
    }
    cache(&spec.cache, found);
    export(&spec.export, spec.table.point_in_time_recovery, found);
    gateway(&spec.api.gateway, (&spec.region, spec.aws.account_id.as_deref()), found);
    connection(spec, found);
    if let Some(given) = &spec.api.auth {
        auth(given, found);
    }
    if let Some(name) = &spec.api.limits.client_address_header {
        let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        found.at("spec.api.limits.clientAddressHeader").require(plain, name, "letters, digits and dashes");
    }
    let hops = spec.api.limits.client_address_hops;
    found.at("spec.api.limits.clientAddressHops").require((1..=10).contains(&hops), hops, "1 to 10");
    let share = spec.api.limits.address_share_percent;
    found.at("spec.api.limits.addressSharePercent").require((1..=100).contains(&share), share, "1 to 100");
    eta::check(&spec.dispatch.eta, found);
    workers::check(&spec.workers, found);
    routing::check(spec, found);
}

/// `spec.dispatch` as a policy of `dispatch-core`, which defines the bounds.
pub(super) fn policy(spec: &DispatchSpec, found: &mut Findings) -> DispatchPolicy {
    let seconds = |seconds: u32| u64::from(seconds) * 1000;
    let policy = DispatchPolicy {
        max_candidates: spec.max_candidates,
        max_attempts: spec.max_attempts,
        offer_timeout_ms: seconds(spec.offer_timeout_seconds),
        search_budget_ms: seconds(spec.search_budget_seconds),
        search_rings_m: spec.search_rings_meters.clone(),
        distance_bucket_m: spec.distance_bucket_meters,
        stale_after_ms: seconds(spec.stale_after_seconds),
        cool_down_after_reject_ms: seconds(spec.cool_downs.after_reject_seconds),
        cool_down_after_timeout_ms: seconds(spec.cool_downs.after_timeout_seconds),
        acceptance_window_days: spec.acceptance_window_days,
        auto_accept: spec.auto_accept,
        exploration_share_percent: spec.exploration_share_percent,
        eta_timeout_ms: spec.eta.timeout_milliseconds.into(),
        eta_top_k: spec.eta.top_k,
        matching: MatchingPolicy {
            mode: match spec.matching.mode {
                MatchingMode::Sequential => policy::MatchingMode::Sequential,
                MatchingMode::Batched => policy::MatchingMode::Batched,
            },
            window_ms: spec.matching.window_milliseconds.into(),
        },
        rides: RidePolicy {
            max_speed_kmh: spec.rides.max_speed_kmh,
            max_fare_percent: spec.rides.max_fare_percent,
            destination_radius_m: spec.rides.destination_radius_meters,
            silent_after_ms: seconds(spec.rides.silent_after_seconds),
            end_silent_after_ms: seconds(spec.rides.end_silent_after_seconds),
        },
        cancellations: requests::cancellations(&spec.cancellations),
        longest_trip_m: spec.longest_trip_meters,
        presence: PresencePolicy {
            silent_after_ms: seconds(spec.presence.silent_after_seconds),
            unanswered_offers: spec.presence.unanswered_offers,
        },
    };
    match policy.clone().checked() {
        Ok(_) => {}
        Err(PolicyError::OutOfRange { field, value, min, max }) => {
            bounds(&format!("spec.dispatch.{field}"), value, format!("{min} to {max}"), found);
        }
        Err(PolicyError::RingsNotRising { before, after }) => {
            let allowed = format!("radii must increase; {after} follows {before}");
            let rings: Vec<String> = spec.search_rings_meters.iter().map(u32::to_string).collect();
            found.describe("spec.dispatch.searchRingsMeters", rings.join(", "), allowed);
        }
    }
    policy
}

/// `spec.dispatch.fare` as a fare table of `dispatch-core`.
pub(super) fn fare(spec: &FareSpec, found: &mut Findings) -> FareTable {
    let mut night_surcharges = Vec::new();
    for (index, night) in spec.night_surcharges.iter().enumerate() {
        let mut minute = |name: &str, time: &str| {
            let path = format!("spec.dispatch.fare.nightSurcharges[{index}].{name}");
            let minute = text::minute_of_day(time);
            found.at(&path).require(minute.is_some(), time, "a time of day HH:MM, 00:00 to 23:59");
            minute
        };
        let (from, to) = (minute("from", &night.from), minute("to", &night.to));
        if let (Some(from_minute), Some(to_minute)) = (from, to) {
            if from_minute == to_minute {
                let path = format!("spec.dispatch.fare.nightSurcharges[{index}].to");
                found.refuse(&path, &night.to, "from and to must differ");
            }
            night_surcharges.push(NightSurcharge { from_minute, to_minute, percent: night.percent });
        }
    }
    let fare = FareTable {
        base: spec.base,
        base_distance_m: spec.base_distance_meters,
        per_distance: spec.per_distance,
        per_distance_m: spec.per_distance_meters,
        per_time: spec.per_time,
        per_time_s: spec.per_time_seconds,
        night_surcharges,
        road_factor_percent: spec.road_factor_percent,
        average_speed_kmh: spec.average_speed_kmh,
        round_to: spec.round_to,
    };
    if let Err(FareError::OutOfRange { field, value, min, max }) = fare.clone().checked() {
        bounds(&format!("spec.dispatch.fare.{field}"), value.into(), format!("{min} to {max}"), found);
    }
    fare
}

/// Adds a bound violation that `dispatch-core` reports, unless the schema check already reported the field.
fn bounds(field: &str, value: u64, allowed: String, found: &mut Findings) {
    // Core adds the aspect of the field in parentheses: "searchRingsMeters (number of rings)".
    let (path, aspect) =
        field.split_once(" (").map_or((field, ""), |(path, aspect)| (path, aspect.trim_end_matches(')')));
    // The path of a surcharge has no index in core and has one in the schema.
    let list = path.rsplit_once('.').map_or(path, |(list, _)| list);
    if found.has(path) || (list.ends_with("nightSurcharges") && found.has(list)) {
        return;
    }
    let allowed = if aspect.is_empty() { allowed } else { format!("{aspect} {allowed}") };
    found.refuse(path, value, allowed);
}

fn aws(spec: &AwsSpec, region: &str, found: &mut Findings) {
    if let Some(account) = &spec.account_id {
        found.at("spec.aws.accountId").require(text::is_account(account), account, "twelve digits, in quotes");
    }
    if let Some(role) = &spec.role_arn {
        let arn = text::arn_of(role, "iam", "role/").filter(|arn| text::is_account(arn.account));
        found.at("spec.aws.roleArn").require(arn.is_some(), role, "arn:aws:iam::<account>:role/<name>");
        if let (Some(arn), Some(account)) = (arn, &spec.account_id) {
            let allowed = format!("a role in the account {account} (accountId)");
            found.at("spec.aws.roleArn").require(arn.account == account, role, &allowed);
        }
    }
    if let Some(id) = &spec.external_id {
        let allowed = "2 to 1224 letters, digits and _ + = , . @ : / -";
        found.at("spec.aws.externalId").require(text::is_external_id(id), id, allowed);
        if spec.role_arn.is_none() {
            found.say("spec.aws.roleArn", "is required with externalId");
        }
    }
    if let Some(boundary) = &spec.permissions_boundary_arn {
        let ok = text::arn_of(boundary, "iam", "policy/")
            .is_some_and(|arn| arn.account == "aws" || text::is_account(arn.account));
        found.at("spec.aws.permissionsBoundaryArn").require(ok, boundary, "arn:aws:iam::<account>:policy/<name>");
    }
    if let Some(key) = &spec.kms_key_arn {
        let ok =
            text::arn_of(key, "kms", "key/").is_some_and(|arn| text::is_account(arn.account) && arn.region == region);
        let allowed = format!("arn:aws:kms:{region}:<account>:key/<id>, a key in spec.region");
        found.at("spec.aws.kmsKeyArn").require(ok, key, &allowed);
    }
    identity(spec, found);
    let mut seen = BTreeSet::new();
    for (key, value) in &spec.tags {
        // IAM compares the keys of tags without regard to case.
        if !seen.insert(key.to_lowercase()) {
            found.say(&format!("spec.aws.tags.{key}"), "differs from another tag key in case only, which IAM refuses");
        }
        let path = format!("spec.aws.tags.{key}");
        let lower = key.to_lowercase();
        if lower.starts_with("aws:") || lower.starts_with("coactus:") {
            found.say(&path, "tag keys that start with aws: or coactus: are reserved");
        }
        let key_ok = (1..=128).contains(&key.chars().count()) && text::is_tag_text(key);
        let characters = "letters, digits, spaces and _ . : / = + - @";
        if !key_ok {
            found.say(&path, format!("a tag key has 1 to 128 characters: {characters}"));
        }
        let value_ok = value.chars().count() <= 256 && text::is_tag_text(value);
        found.at(&path).require(value_ok, value, &format!("0 to 256 characters: {characters}"));
    }
}

/// What gives the workers their roles.
fn identity(spec: &AwsSpec, found: &mut Findings) {
    if let Some(name) = &spec.eks_cluster_name {
        let allowed = "the name of an EKS cluster: 1 to 100 letters, digits and inner dashes and underscores";
        found.at("spec.aws.eksClusterName").require(text::is_cluster_name(name), name, allowed);
    }
    if let Some(provider) = &spec.oidc_provider_arn {
        let arn = text::arn_of(provider, "iam", "oidc-provider/").filter(|arn| text::is_account(arn.account));
        found.at("spec.aws.oidcProviderArn").require(
            arn.is_some(),
            provider,
            "arn:aws:iam::<account>:oidc-provider/<issuer without https://>",
        );
        if let (Some(arn), Some(account)) = (arn, &spec.account_id) {
            let allowed = format!("a provider in the account {account} (accountId)");
            found.at("spec.aws.oidcProviderArn").require(arn.account == account, provider, &allowed);
        }
    }
    if let Some(principal) = &spec.worker_principal_arn {
        let ok = text::arn_of(principal, "iam", "role/").is_some_and(|arn| text::is_account(arn.account));
        found.at("spec.aws.workerPrincipalArn").require(ok, principal, "arn:aws:iam::<account>:role/<name>");
    }
}

fn table(spec: &TableSpec, found: &mut Findings) {
    if let Some(name) = &spec.name {
        let allowed = "3 to 248 of A-Z a-z 0-9 _ . -";
        found.at("spec.table.name").require(text::is_table_name(name), name, allowed);
    }
    for (name, capacity) in [("read", &spec.billing.read), ("write", &spec.billing.write)] {
        let path = format!("spec.table.billing.{name}");
        match (spec.billing.mode, capacity) {
            (BillingMode::Provisioned, None) => found.say(&path, "is required with mode Provisioned: min and max"),
            (BillingMode::OnDemand, Some(_)) => found.say(&path, "is not allowed with mode OnDemand; remove it"),
            (BillingMode::Provisioned, Some(capacity)) if capacity.min > capacity.max => {
                found.refuse(&format!("{path}.max"), capacity.max, format!("at least min ({})", capacity.min));
            }
            _ => {}
        }
    }
}

fn queues(spec: &QueuesSpec, offer_timeout_seconds: u32, found: &mut Findings) {
    let all = [("offers", &spec.offers), ("responses", &spec.responses), ("notifications", &spec.notifications)];
    for (name, queue) in all {
        let (retention, visibility) = (queue.retention_seconds, queue.visibility_timeout_seconds);
        let path = format!("spec.queues.{name}.visibilityTimeoutSeconds");
        if visibility >= retention && !found.has(&path) {
            found.refuse(
                &path,
                visibility,
                format!(
                    "less than retentionSeconds ({retention}): SQS would delete messages while workers process them"
                ),
            );
        }
    }
    let retention = spec.offers.retention_seconds;
    let path = "spec.queues.offers.retentionSeconds";
    if retention <= offer_timeout_seconds && !found.has(path) {
        let allowed = format!(
            "greater than spec.dispatch.offerTimeoutSeconds ({offer_timeout_seconds}): SQS would delete offer timers \
             before it delivers them"
        );
        found.refuse(path, retention, allowed);
    }
}

fn secret(path: &str, secret: &SecretKeyRef, found: &mut Findings) {
    // The value may be the secret itself, entered by mistake, so it is never repeated.
    if !text::is_dns_subdomain(&secret.name) {
        found.say(&format!("{path}.name"), "must be the name of a Secret: lower-case letters, digits, dashes and dots");
    }
    if !text::is_secret_key(&secret.key) {
        found.say(&format!("{path}.key"), "must be a key of the Secret: 1 to 253 of A-Z a-z 0-9 - _ .");
    }
}

fn cache(spec: &CacheSpec, found: &mut Findings) {
    let node_type = "an ElastiCache node type such as cache.t4g.small";
    found.at("spec.cache.nodeType").require(text::is_node_type(&spec.node_type), &spec.node_type, node_type);
    let is_tiered = spec.node_type.split('.').nth(1).is_some_and(|family| family.ends_with("gd"));
    let allowed = "a node type without data tiering (r6gd): positions of drivers do not belong on a disk";
    found.at("spec.cache.nodeType").require(!is_tiered, &spec.node_type, allowed);
    subnets("spec.cache", &spec.subnet_ids, &spec.security_group_ids, found);
    let Some(external) = &spec.external else { return };
    // The address may contain a password, so it is not repeated.
    if external.url.contains('@') {
        found.say("spec.cache.external.url", "must not contain a user name or password; use spec.cache.authSecretRef");
    } else if !text::is_origin(&external.url, &["redis", "rediss"]) {
        found.say("spec.cache.external.url", "must be redis://host:port or rediss://host:port, without a path");
    } else if spec.auth_secret_ref.is_some() && !external.url.starts_with("rediss://") {
        let why =
            "must be rediss:// (TLS) with authSecretRef: without TLS the AUTH token crosses the network unencrypted";
        found.say("spec.cache.external.url", why);
    }
    let default = CacheSpec::default();
    for (name, set) in [
        ("nodeType", spec.node_type != default.node_type),
        ("replicas", spec.replicas != default.replicas),
        ("engineVersion", spec.engine_version != default.engine_version),
        ("subnetIds", !spec.subnet_ids.is_empty()),
        ("securityGroupIds", !spec.security_group_ids.is_empty()),
    ] {
        if set {
            let why = "is not allowed with external: the operator does not manage that cache";
            found.say(&format!("spec.cache.{name}"), why);
        }
    }
}

fn subnets(path: &str, subnets: &[String], groups: &[String], found: &mut Findings) {
    let subnet = "subnet- and 8 or 17 hexadecimal digits";
    found.at(&format!("{path}.subnetIds")).each(subnets, text::is_subnet, subnet);
    let group = "sg- and 8 or 17 hexadecimal digits";
    found.at(&format!("{path}.securityGroupIds")).each(groups, text::is_security_group, group);
}

fn export(spec: &ExportSpec, point_in_time_recovery: bool, found: &mut Findings) {
    if let Some(schedule) = &spec.schedule {
        // Whether the expression is valid does not depend on the time zone.
        let is_schedule = Schedule::parse(schedule, TimeZone::UTC).is_some();
        // croner's error texts describe its parser; the expected form is more helpful.
        let cron = "a cron expression of five fields (minute hour day month weekday) such as 0 4 * * *";
        found.at("spec.export.schedule").require(is_schedule, schedule, cron);
        let minute = schedule.split_whitespace().next().unwrap_or_default();
        let is_hourly = spec.export_type != ExportType::Full || minute.parse::<u8>().is_ok();
        let allowed = "one number as the minute with type: Full: at most one export of the whole table an hour";
        found.at("spec.export.schedule").require(!is_schedule || is_hourly, schedule, allowed);
    }
    let prefix = "1 to 128 of A-Z a-z 0-9 _ - /, without a leading or trailing /";
    found.at("spec.export.prefix").require(text::is_key_prefix(&spec.prefix), &spec.prefix, prefix);
    let is_results = spec.prefix.split('/').next() == Some(QUERY_RESULTS_PREFIX);
    let allowed = format!("another prefix than {QUERY_RESULTS_PREFIX}, where query results expire after 7 days");
    found.at("spec.export.prefix").require(!is_results, &spec.prefix, &allowed);
    if point_in_time_recovery {
        return;
    }
    let analytics = spec.analytics.as_ref().is_some_and(|analytics| analytics.enabled);
    for (name, set) in [("schedule", spec.schedule.is_some()), ("analytics", analytics)] {
        if set {
            let why = "requires spec.table.pointInTimeRecovery: true: exports read the continuous backups";
            found.say(&format!("spec.export.{name}"), why);
        }
    }
}

/// `place` is the region of the system, and its account if the spec names it.
fn gateway(spec: &GatewaySpec, place: (&str, Option<&str>), found: &mut Findings) {
    const PATH: &str = "spec.api.gateway";
    if spec.enabled && spec.upstream.is_none() {
        found.say(&format!("{PATH}.upstream"), "is required with enabled: true: url or vpcLink");
    }
    if spec.enabled && spec.jwt.is_none() {
        found.say(&format!("{PATH}.jwt"), "is required with enabled: true: issuer and audiences");
    }
    if let Some(upstream) = &spec.upstream {
        upstream_of(upstream, place, found);
    }
    if let Some(jwt) = &spec.jwt {
        issuer_of(&format!("{PATH}.jwt"), &jwt.issuer, &jwt.audiences, found);
    }
}

fn connection(spec: &DispatchSystemSpec, found: &mut Findings) {
    const NAME: &str = "a Kubernetes object name: lower-case letters, digits, inner dashes and dots";
    let ConnectionSpec { config_map_name, secret_name } = &spec.connection;
    if let Some(name) = config_map_name {
        found.at("spec.connection.configMapName").require(text::is_dns_subdomain(name), name, NAME);
    }
    let Some(name) = secret_name else { return };
    found.at("spec.connection.secretName").require(text::is_dns_subdomain(name), name, NAME);
    if spec.secret_refs().iter().any(|(_, reference)| reference.name == *name) {
        found.say("spec.connection.secretName", "is the name of a Secret that the system reads; choose another name");
    }
}

fn auth(spec: &AuthSpec, found: &mut Findings) {
    const PATH: &str = "spec.api.auth";
    issuer_of(PATH, &spec.issuer, &spec.audiences, found);
    if let Some(url) = &spec.jwks_url {
        found.at(&format!("{PATH}.jwksUrl")).require(text::is_issuer(url), url, "an https:// address without a query");
    }
    let ClaimsSpec { id, scopes, user, driver, payments, operations, city } = &spec.claims;
    let names = [
        ("id", id),
        ("scopes", scopes),
        ("user", user),
        ("driver", driver),
        ("payments", payments),
        ("operations", operations),
        ("city", city),
    ];
    for (name, value) in names {
        let allowed = "visible ASCII characters without spaces and braces";
        found.at(&format!("{PATH}.claims.{name}")).require(text::is_claim(value), value, allowed);
    }
    let scopes = [user, driver, payments, operations];
    if scopes.iter().collect::<BTreeSet<_>>().len() < scopes.len() {
        found.say(&format!("{PATH}.claims"), "user, driver, payments and operations must be different scopes");
    }
}

fn issuer_of(path: &str, issuer: &str, audiences: &[String], found: &mut Findings) {
    let allowed = "an https:// address without a query";
    found.at(&format!("{path}.issuer")).require(text::is_issuer(issuer), issuer, allowed);
    let audience = "a value of the claim aud: visible ASCII characters without braces, spaces only inside";
    found.at(&format!("{path}.audiences")).each(audiences, text::is_audience, audience);
}

fn upstream_of(upstream: &UpstreamSpec, (region, account): (&str, Option<&str>), found: &mut Findings) {
    const PATH: &str = "spec.api.gateway.upstream";
    if upstream.url.is_some() == upstream.vpc_link.is_some() {
        let given = if upstream.url.is_some() { "both are set" } else { "neither is set" };
        found.say(PATH, format!("exactly one of url and vpcLink is required, {given}"));
    }
    if let Some(url) = &upstream.url
        && !text::is_origin(url, &["https"])
    {
        found.say(&format!("{PATH}.url"), "must be https://host or https://host:port, without path or credentials");
    }
    if let Some(link) = &upstream.vpc_link {
        subnets(&format!("{PATH}.vpcLink"), &link.subnet_ids, &link.security_group_ids, found);
        // API Gateway reaches load balancers of its own account only.
        let ok = text::arn_of(&link.listener_arn, "elasticloadbalancing", "listener/").is_some_and(|arn| {
            text::is_account(arn.account) && arn.region == region && account.is_none_or(|own| own == arn.account)
        });
        let own = account.unwrap_or("<account>");
        let allowed = format!(
            "arn:aws:elasticloadbalancing:{region}:{own}:listener/…, a listener of the city's region and account"
        );
        found.at(&format!("{PATH}.vpcLink.listenerArn")).require(ok, &link.listener_arn, &allowed);
    }
}

/// Whether this is the exact name of a zone in the time zone database. jiff ignores case, programs in other languages
/// do not.
fn is_time_zone(name: &str) -> bool {
    TimeZone::get(name).is_ok_and(|zone| zone.iana_name() == Some(name))
}
