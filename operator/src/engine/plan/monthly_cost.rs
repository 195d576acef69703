//! What a plan adds to the charges of a month that depend on time alone: nodes of the cache, provisioned capacity of
//! tables, and alarms. Pure.
//!
//! A plan does not know how a city will be used, so charges for requests, storage and transfer are not counted. The
//! prices are list prices of one region, compiled into the program (`operator/prices.json`, with sources).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::LazyLock;

use dispatch_api::dispatch_system::PlannedCost;
use serde::Deserialize;
use serde_json::Value;

use crate::cloud::{ChangeKind, MonthlyCost, ResourceChange};
use crate::sanitize::shown;

const CACHE: &str = "AWS::ElastiCache::ReplicationGroup";
const TABLE: &str = "AWS::DynamoDB::Table";
const ALARM: &str = "AWS::CloudWatch::Alarm";
/// Millionths of a US dollar in a cent.
const CENT: i64 = 10_000;

#[derive(Deserialize)]
struct PriceFile {
    region: String,
    fixed: FixedPrices,
}

#[derive(Deserialize)]
struct FixedPrices {
    read_on: String,
    hours_per_month: i64,
    alarm_month: Price,
    read_capacity_hour: Price,
    write_capacity_hour: Price,
    cache_node_hour: NodePrices,
}

/// In millionths of a US dollar.
#[derive(Deserialize)]
struct Price {
    price: i64,
}

#[derive(Deserialize)]
struct NodePrices {
    prices: BTreeMap<String, i64>,
}

static PRICES: LazyLock<PriceFile> = LazyLock::new(|| {
    // A test reads it.
    #[expect(clippy::expect_used, reason = "the file is part of the program")]
    serde_json::from_str(include_str!("../../../prices.json")).expect("the price file is valid")
});

/// What a change of a resource adds, from the resource in the template that was last applied and in the desired one;
/// `Null` where there is none.
pub fn cost_of_change(kind: ChangeKind, old: &Value, new: &Value) -> MonthlyCost {
    let stays = |policy: &Value| policy.as_str().is_some_and(|policy| policy.starts_with("Retain"));
    let before = match kind {
        // Retained resources stay, and so do their charges.
        ChangeKind::Remove if stays(&old["DeletionPolicy"]) => return MonthlyCost::Unchanged,
        ChangeKind::Replace if stays(&old["UpdateReplacePolicy"]) => Ok(0),
        _ => charge(old),
    };
    match (before, charge(new)) {
        (Ok(before), Ok(after)) if before == after => MonthlyCost::Unchanged,
        (Ok(before), Ok(after)) => MonthlyCost::By(after - before),
        // The same node type before and after.
        _ if old["Properties"] == new["Properties"] => MonthlyCost::Unchanged,
        (Err(why), _) | (_, Err(why)) => MonthlyCost::Unknown(why),
    }
}

/// What a change adds if the template that was last applied could not be read.
pub fn cost_without_template(change: &ResourceChange, new: &Value) -> MonthlyCost {
    match (change.kind, change.resource_type.as_str()) {
        (ChangeKind::Add, _) => cost_of_change(ChangeKind::Add, &Value::Null, new),
        (_, CACHE | TABLE | ALARM) => MonthlyCost::Unknown(format!("the present charge of {}", change.logical_id)),
        _ => MonthlyCost::Unchanged,
    }
}

/// The charge of a resource for a month, in millionths of a US dollar; what is not known about it otherwise.
fn charge(resource: &Value) -> Result<i64, String> {
    let prices = &PRICES.fixed;
    let properties = &resource["Properties"];
    match resource["Type"].as_str() {
        // CloudWatch charges each metric of an alarm.
        Some(ALARM) => Ok(prices.alarm_month.price * metrics(properties)),
        Some(CACHE) => {
            let node = properties["CacheNodeType"].as_str().unwrap_or_default();
            let price = prices.cache_node_hour.prices.get(node).ok_or_else(|| format!("the price of {node}"))?;
            Ok(price * prices.hours_per_month * properties["NumCacheClusters"].as_i64().unwrap_or(1))
        }
        Some(TABLE) => Ok(capacity(properties) * prices.hours_per_month),
        _ => Ok(0),
    }
}

/// Number of metrics of an alarm.
fn metrics(alarm: &Value) -> i64 {
    let several = alarm["Metrics"].as_array().into_iter().flatten();
    several.map(|metric| i64::from(metric["MetricStat"].is_object())).sum::<i64>().max(1)
}

/// The charge of an hour for the provisioned capacity of a table and its indexes, at the minimum of its autoscaling.
fn capacity(properties: &Value) -> i64 {
    let prices = &PRICES.fixed;
    let of = |throughput: &Value| {
        let units = |name: &str| throughput[name].as_i64().unwrap_or(0);
        units("ReadCapacityUnits") * prices.read_capacity_hour.price
            + units("WriteCapacityUnits") * prices.write_capacity_hour.price
    };
    let indexes = properties["GlobalSecondaryIndexes"].as_array().into_iter().flatten();
    of(&properties["ProvisionedThroughput"]) + indexes.map(|index| of(&index["ProvisionedThroughput"])).sum::<i64>()
}

/// What a plan adds to the charges of a month. Displayed with sign and parts:
/// `+49.82 USD a month (alarms +3.10, cache +46.72)`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FixedCost {
    /// In millionths of a US dollar, by what is charged.
    parts: BTreeMap<&'static str, i64>,
    /// What the price file does not know.
    unknown: BTreeSet<String>,
}

impl FixedCost {
    /// Adds the changes of a plan.
    pub fn from_changes(changes: &[ResourceChange]) -> Self {
        let mut cost = Self::default();
        for change in changes {
            match &change.cost {
                MonthlyCost::Unchanged => {}
                MonthlyCost::By(difference) => {
                    *cost.parts.entry(name(&change.resource_type)).or_default() += difference;
                }
                MonthlyCost::Unknown(what) => {
                    cost.unknown.insert(what.clone());
                }
            }
        }
        cost.parts.retain(|_, difference| *difference != 0);
        cost
    }

    /// Whether the charges stay the same.
    pub fn is_unchanged(&self) -> bool {
        self.parts.is_empty() && self.unknown.is_empty()
    }

    /// Where and when the prices were read, and that those of another region differ.
    pub fn basis(region: &str) -> String {
        let PriceFile { region: priced, fixed } = &*PRICES;
        let other = if region == priced { String::new() } else { format!("; prices in {region} differ") };
        format!("list prices in {priced} of {}{other}", fixed.read_on)
    }

    /// The document form.
    pub fn document(&self) -> PlannedCost {
        PlannedCost {
            change: amount(self.parts.values().sum()),
            currency: "USD".to_owned(),
            prices_of: PRICES.region.clone(),
            unknown: self.unknown.iter().map(|what| shown(what)).collect(),
        }
    }
}

impl fmt::Display for FixedCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.parts.is_empty() {
            f.write_str("no change")?;
        } else {
            let parts: Vec<_> = self.parts.iter().map(|(name, part)| format!("{name} {}", amount(*part))).collect();
            write!(f, "{} USD a month ({})", amount(self.parts.values().sum()), parts.join(", "))?;
        }
        if self.unknown.is_empty() {
            return Ok(());
        }
        let unknown: Vec<_> = self.unknown.iter().map(|what| shown(what)).collect();
        write!(f, "; not known: {}", unknown.join(", "))
    }
}

fn name(resource_type: &str) -> &'static str {
    match resource_type {
        CACHE => "cache",
        TABLE => "provisioned capacity",
        _ => "alarms",
    }
}

/// Dollars and cents with a sign: `+46.72`.
fn amount(millionths: i64) -> String {
    let cents = (millionths.abs() + CENT / 2) / CENT;
    let sign = if millionths < 0 && cents > 0 { '-' } else { '+' };
    format!("{sign}{}.{:02}", cents / 100, cents % 100)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cache(node: &str, nodes: u32) -> Value {
        json!({ "Type": CACHE, "DeletionPolicy": "Delete",
            "Properties": { "CacheNodeType": node, "NumCacheClusters": nodes } })
    }

    fn table(read: u32, write: u32) -> Value {
        let throughput = json!({ "ReadCapacityUnits": read, "WriteCapacityUnits": write });
        json!({ "Type": TABLE, "DeletionPolicy": "RetainExceptOnCreate", "UpdateReplacePolicy": "Retain",
            "Properties": { "ProvisionedThroughput": throughput,
                "GlobalSecondaryIndexes": [{ "ProvisionedThroughput": throughput }] } })
    }

    fn change(kind: ChangeKind, old: &Value, new: &Value) -> ResourceChange {
        let resource_type = new["Type"].as_str().or_else(|| old["Type"].as_str()).unwrap_or_default();
        let cost = cost_of_change(kind, old, new);
        ResourceChange { kind, cost, ..ResourceChange::added("Thing", resource_type) }
    }

    fn text(changes: &[ResourceChange]) -> String {
        FixedCost::from_changes(changes).to_string()
    }

    #[test]
    fn a_plan_says_what_a_month_costs_more_or_less() {
        use ChangeKind::{Add, Change, Remove, Replace};
        let nothing = Value::Null;
        let alarm = json!({ "Type": ALARM });
        let new = [change(Add, &nothing, &cache("cache.t4g.small", 2)), change(Add, &nothing, &alarm)];
        assert_eq!(text(&new), "+46.82 USD a month (alarms +0.10, cache +46.72)");
        let smaller = change(Change, &cache("cache.r7g.large", 3), &cache("cache.t4g.small", 2));
        assert_eq!(text(&[smaller]), "-432.89 USD a month (cache -432.89)");
        let capacity = change(Change, &json!({ "Type": TABLE }), &table(10, 20));
        // Table and index: 2 * 730 * (10 * 0.00013 + 20 * 0.00065).
        assert_eq!(text(&[capacity]), "+20.88 USD a month (provisioned capacity +20.88)");
        // A removed resource that is retained costs as much as before, and one that is replaced costs twice.
        assert_eq!(text(&[change(Remove, &table(10, 20), &nothing)]), "no change");
        assert_eq!(
            text(&[change(Remove, &cache("cache.t4g.small", 2), &nothing)]),
            "-46.72 USD a month (cache -46.72)"
        );
        let replaced = change(Replace, &table(10, 20), &table(10, 20));
        assert_eq!(text(&[replaced]), "+20.88 USD a month (provisioned capacity +20.88)");
        let free = json!({ "Type": "AWS::SQS::Queue" });
        assert_eq!(text(&[change(Add, &nothing, &free), change(Change, &alarm, &alarm)]), "no change");
        let metric = json!({ "MetricStat": {} });
        let of_three = json!({ "Type": ALARM, "Properties": { "Metrics": [metric, metric, metric, {}] } });
        assert_eq!(text(&[change(Add, &nothing, &of_three)]), "+0.30 USD a month (alarms +0.30)");
    }

    #[test]
    fn what_the_price_file_does_not_know_is_named_and_never_counted_as_free() {
        let unknown = change(ChangeKind::Change, &cache("cache.t4g.small", 2), &cache("cache.x9.huge", 2));
        let alarm = change(ChangeKind::Add, &Value::Null, &json!({ "Type": ALARM }));
        let cost = FixedCost::from_changes(&[unknown, alarm]);
        assert_eq!(cost.to_string(), "+0.10 USD a month (alarms +0.10); not known: the price of cache.x9.huge");
        assert_eq!(cost.document().unknown, ["the price of cache.x9.huge"]);
        assert!(!cost.is_unchanged());
        let same = change(ChangeKind::Change, &cache("cache.x9.huge", 2), &cache("cache.x9.huge", 2));
        assert!(FixedCost::from_changes(&[same]).is_unchanged());
        let without = ResourceChange { kind: ChangeKind::Change, ..ResourceChange::added("Table", TABLE) };
        let cost = cost_without_template(&without, &table(1, 1));
        assert_eq!(cost, MonthlyCost::Unknown("the present charge of Table".to_owned()));
    }

    #[test]
    fn prices_of_another_region_are_never_shown_as_the_regions_own() {
        assert_eq!(FixedCost::basis("us-east-1"), "list prices in us-east-1 of 2026-11-30");
        let other = FixedCost::basis("ap-northeast-2");
        assert_eq!(other, "list prices in us-east-1 of 2026-11-30; prices in ap-northeast-2 differ");
    }

    #[test]
    fn amounts_are_rounded_to_cents_and_have_a_sign() {
        for (millionths, text) in
            [(0, "+0.00"), (4_999, "+0.00"), (-4_999, "+0.00"), (5_000, "+0.01"), (-5_000, "-0.01")]
        {
            assert_eq!(amount(millionths), text);
        }
    }
}
