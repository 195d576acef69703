//! What a step changes in the stored item of a dispatch.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::AttributeValue;
use dispatch_core::dispatch::{Dispatch, DispatchStatus, Step};
use dispatch_core::route::RouteEntry;
use serde::Serialize;

use crate::adapters::store::convert::{Codec, DISPATCH, Item, ItemError, expiry, write_item};
use crate::adapters::store::entity::{MatchingItem, Timestamp};
use crate::adapters::store::expression::{Expression, text};
use crate::adapters::store::keys;
use crate::ports::StoredDispatch;

/// The attribute to which entries are appended.
const EVENTS: &str = "events";

/// A change of the item of a dispatch, built from a step. It names what the step decided and nothing else, so that
/// attributes of other services survive, and entries that they append meanwhile.
pub struct DispatchChange {
    /// Attributes and their new values.
    pub(super) set: Item,
    /// Index keys that are written only if the item has none. If another service omitted them, the first step adds
    /// them.
    pub(super) set_if_missing: Item,
    /// New entries of `events`.
    pub(super) events: Vec<AttributeValue>,
}

/// The attributes that a step sets, with their names in the table.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StepAttributes {
    status: DispatchStatus,
    driver_id: Option<String>,
    updated_at: Timestamp,
    offer_seq: u32,
    ver: u32,
    #[serde(rename = "GSI1PK")]
    gsi1pk: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    matching: Option<MatchingItem>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    totals: Option<TotalAttributes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<Vec<RouteEntry>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TotalAttributes {
    actual_fare: u32,
    distance_meters: u32,
    duration_seconds: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    metered_fare: Option<u32>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    far_from_destination: bool,
}

#[derive(Serialize)]
struct IndexKeys {
    #[serde(rename = "GSI1SK")]
    gsi1sk: String,
    #[serde(rename = "GSI2PK")]
    gsi2pk: String,
    #[serde(rename = "GSI2SK")]
    gsi2sk: String,
}

impl DispatchChange {
    /// The update of the item.
    pub(super) fn into_update(self) -> Expression {
        // Sorted, so that equal changes are equal requests.
        let sorted = |attributes: Item| BTreeMap::from_iter(attributes);
        let mut update = Expression::default();
        for (name, value) in sorted(self.set) {
            update.set(&name, value);
        }
        for (name, value) in sorted(self.set_if_missing) {
            update.set_if_missing(&name, value);
        }
        if !self.events.is_empty() {
            update.append(EVENTS, self.events);
        }
        update
    }

    /// Applies the change to an item as the table does.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn apply_to(&self, item: &mut Item) {
        item.extend(self.set.clone());
        for (name, value) in &self.set_if_missing {
            item.entry(name.clone()).or_insert_with(|| value.clone());
        }
        if self.events.is_empty() {
            return;
        }
        match item.get_mut(EVENTS) {
            Some(AttributeValue::L(events)) => events.extend(self.events.iter().cloned()),
            _ => {
                item.insert(EVENTS.to_owned(), AttributeValue::L(self.events.clone()));
            }
        }
    }
}

impl Codec {
    /// The change that adds missing index keys and nothing else.
    pub(super) fn indexing(&self, state: &Dispatch) -> Result<DispatchChange, ItemError> {
        let mut set_if_missing = self.missing_keys(state)?;
        set_if_missing.insert("GSI1PK".to_owned(), text(keys::gsi1_dispatch_pk(state.status, &state.id, self.shards)));
        Ok(DispatchChange { set: Item::new(), set_if_missing, events: Vec::new() })
    }

    fn missing_keys(&self, state: &Dispatch) -> Result<Item, ItemError> {
        let created = self.city.sort_time(state.created_at);
        let keys = IndexKeys {
            gsi1sk: keys::gsi1_dispatch_sk(&created, &state.id),
            gsi2pk: keys::gsi2_user_pk(&state.user),
            gsi2sk: keys::gsi2_dispatch_sk(&created),
        };
        write_item(DISPATCH, &keys)
    }

    /// The change of the item that turns `before` into `after`, the result of `step`.
    pub(super) fn change(
        &self,
        before: &StoredDispatch,
        step: &Step,
        after: &StoredDispatch,
    ) -> Result<DispatchChange, ItemError> {
        let StoredDispatch { state, details } = after;
        // A dispatch of another service has no search yet, and a path cannot lead into a missing map.
        let search = before.state.ver == 0 || before.state.matching != state.matching;
        let ended = state.status == DispatchStatus::Completed && before.state.status != state.status;
        let finished = matches!(state.status, DispatchStatus::Completed | DispatchStatus::Cancelled);
        let ended_at = step.records.last().filter(|_| finished && before.state.status != state.status);
        let set = StepAttributes {
            status: state.status,
            driver_id: state.driver.as_ref().map(ToString::to_string),
            updated_at: details.updated_at.clone(),
            offer_seq: state.offer_seq,
            ver: state.ver,
            gsi1pk: keys::gsi1_dispatch_pk(state.status, &state.id, self.shards),
            matching: search.then(|| self.matching_item(&state.matching)),
            totals: ended.then_some(TotalAttributes {
                actual_fare: details.actual_fare,
                distance_meters: details.distance_m,
                duration_seconds: details.duration_s,
                metered_fare: details.metered_fare,
                far_from_destination: details.is_far,
            }),
            route: ended.then(|| details.route.clone()),
            expires_at: ended_at.map(|record| expiry(record.at, self.retention().dispatches_s)),
        };
        let events = step.records.iter().map(|record| {
            let entry = write_item(DISPATCH, &self.event(record))?;
            Ok(AttributeValue::M(entry))
        });
        let mut set = write_item(DISPATCH, &set)?;
        if before.state.review != state.review {
            let reason = state.review.map(|reason| text(reason.as_str()));
            // Null after the review.
            set.insert("review".to_owned(), reason.unwrap_or(AttributeValue::Null(true)));
        }
        Ok(DispatchChange {
            set,
            set_if_missing: self.missing_keys(state)?,
            events: events.collect::<Result<_, ItemError>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item<const N: usize>(fields: [(&str, AttributeValue); N]) -> Item {
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    #[test]
    fn a_step_sets_what_it_decided_adds_missing_keys_and_appends_its_events() {
        let change = DispatchChange {
            set: item([("status", text("ACCEPTED")), ("driverId", AttributeValue::Null(true))]),
            set_if_missing: item([("GSI2PK", text("USER#user#1"))]),
            events: vec![text("b")],
        };
        assert_eq!(
            change.into_update().update_text(),
            "SET #driverId = :v0, #status = :v1, #GSI2PK = if_not_exists(#GSI2PK, :v2), \
             #events = list_append(if_not_exists(#events, :v3), :v4)"
        );
    }
}
