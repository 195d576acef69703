//! [`DispatchStore`] on DynamoDB: reads, lists and routes. `transactions` has the writes that decide.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use dispatch_core::dispatch::{CLOCKS_DIFFER_MS, Dispatch, DispatchStatus, Step, latest_wait};
use dispatch_core::ids::{DispatchId, DriverId};
use dispatch_core::route::RoutePoint;
use dispatch_core::time::EpochMs;
use thiserror::Error;

use crate::adapters::store::convert::{
    Codec, DISPATCH, DISPATCH_ROUTE, Item, ItemError, read_item, route_points, write_item,
};
use crate::adapters::store::entity::RouteChunkItem;
use crate::adapters::store::error::{DynamoFailure, Meaning};
use crate::adapters::store::expression::{key, key_text, string, text};
use crate::adapters::store::{DynamoStore, broken, keys};
use crate::ports::{
    Commit, CreateOutcome, DispatchStore, NewDispatch, OngoingRide, OpenReview, Owner, Page, PortError, StoredDispatch,
    TravelledRoute,
};

const LOAD: &str = "reading a dispatch";
const INDEX: &str = "indexing a dispatch";
const LIST: &str = "listing dispatches";
const RIDES: &str = "searching silent rides";
const REVIEWS: &str = "listing reviews";
const SWEEP: &str = "searching open dispatches";
const APPEND_ROUTE: &str = "storing a route";
const READ_ROUTE: &str = "reading a route";

/// Longest page of a list: the most that one `BatchGetItem` returns.
pub(super) const LIST_MAX: u16 = 100;

/// Most pages of 1 MB per route: about 130,000 points, a day and a half with a ping per second.
const ROUTE_PAGES_MAX: usize = 16;

/// Requests per query of the sweeper. They have about 3 KB each, so that a page stays below DynamoDB's 1 MB.
const SWEEP_PAGE: i32 = 250;

/// Most pages per partition and round: 5,000 open requests, far more than a partition has. The rest follows in later
/// rounds.
const SWEEP_PAGES_MAX: usize = 20;

/// The page token is invalid.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the page token was not made by this list")]
pub(crate) struct PageTokenError;

/// Where a page of a list ended: time and dispatch of its last entry, `2025-05-25T14:30:00.000_01JQ…`. It contains no
/// partition, so a token cannot lead into another person's list.
pub(super) struct PageToken {
    pub(super) sort_time: String,
    pub(super) dispatch: DispatchId,
}

impl PageToken {
    pub(super) fn parse(token: &str) -> Result<Self, PageTokenError> {
        let (time, suffix) = token.split_once('_').ok_or(PageTokenError)?;
        time.parse::<jiff::civil::DateTime>().map_err(|_| PageTokenError)?;
        let dispatch = DispatchId::from_suffix(suffix).map_err(|_| PageTokenError)?;
        Ok(Self { sort_time: time.to_owned(), dispatch })
    }

    pub(super) fn text(&self) -> String {
        format!("{}_{}", self.sort_time, self.dispatch.suffix())
    }

    /// The index key after which the next page starts. It need not exist any more.
    pub(super) fn start_key(&self, owner: &Owner) -> Item {
        let (mut start, partition) = match owner {
            Owner::User(user) => (key(self.dispatch.as_str(), keys::DISPATCH_SK), keys::gsi2_user_pk(user)),
            Owner::Driver(driver) => {
                let ride = keys::completed_ride_sk(&self.sort_time, &self.dispatch);
                (key(driver.as_str(), &ride), keys::gsi2_driver_pk(driver))
            }
        };
        start.insert("GSI2PK".to_owned(), text(partition));
        start.insert("GSI2SK".to_owned(), text(keys::gsi2_dispatch_sk(&self.sort_time)));
        start
    }

    /// The index key of the list of reviews after which the next page starts.
    fn review_key(&self) -> Item {
        let mut start = key(self.dispatch.as_str(), keys::REVIEW_SK);
        start.insert("GSI1PK".to_owned(), text(keys::GSI1_OPEN_REVIEWS));
        start.insert("GSI1SK".to_owned(), text(self.review_sk()));
        start
    }

    /// The sort key of an entry of the list of reviews.
    pub(super) fn review_sk(&self) -> String {
        keys::gsi1_dispatch_sk(&self.sort_time, &self.dispatch)
    }

    /// The token of an entry of the list of reviews.
    pub(super) fn from_review(sort_key: &str) -> Option<Self> {
        let (sort_time, dispatch) = sort_key.split_once('#')?;
        Some(Self { sort_time: sort_time.to_owned(), dispatch: DispatchId::parse(dispatch).ok()? })
    }

    /// The token for the last entry of a page: a dispatch, or a completed ride that refers to one.
    pub(super) fn from_last_entry(entry: &Item) -> Option<Self> {
        let sort_time = string(entry, "GSI2SK")?.strip_prefix(keys::GSI2_DISPATCH_PREFIX)?;
        Some(Self { sort_time: sort_time.to_owned(), dispatch: dispatch_of(entry)? })
    }
}

/// Whether a text has the form of a page token, the only input of [`DispatchStore::list`] that can be invalid.
pub(crate) fn is_page_token(text: &str) -> bool {
    PageToken::parse(text).is_ok()
}

/// The times by which the sweeper selects requests, as stored.
pub(super) struct SweepTimes {
    /// Requests from this time on are young.
    young: String,
    /// Later requests were dated by a clock that was wrong.
    latest: String,
    /// Offers that end until this time are over.
    pub(super) ended: String,
    /// Offers that end later were dated by a clock that was wrong.
    pub(super) latest_end: String,
}

impl SweepTimes {
    pub(super) fn new(codec: &Codec, before: EpochMs) -> Self {
        let city = &codec.city;
        Self {
            young: city.sort_time(before),
            latest: city.sort_time(before.plus_ms(CLOCKS_DIFFER_MS)),
            ended: city.timestamp_ms(before),
            latest_end: city.timestamp_ms(latest_wait(before)),
        }
    }

    /// Whether a request with this sort key is not young.
    pub(super) fn is_due(&self, sort_key: &str) -> bool {
        sort_key < self.young.as_str() || sort_key > self.latest.as_str()
    }

    /// Whether no offer is live that ends at this time.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn is_over(&self, timeout_at: &str) -> bool {
        timeout_at <= self.ended.as_str() || timeout_at > self.latest_end.as_str()
    }
}

fn dispatch_of(entry: &Item) -> Option<DispatchId> {
    let id = string(entry, "dispatchId").or_else(|| string(entry, "PK"))?;
    DispatchId::parse(id).ok()
}

#[async_trait]
impl DispatchStore for DynamoStore {
    async fn create(&self, new: NewDispatch) -> Result<CreateOutcome, PortError> {
        self.create_dispatch(&new).await
    }

    async fn load(&self, id: &DispatchId) -> Result<Option<StoredDispatch>, PortError> {
        self.load_dispatch(LOAD, id).await
    }

    async fn commit(
        &self,
        before: &StoredDispatch,
        step: &Step,
        route: Option<TravelledRoute>,
    ) -> Result<Commit, PortError> {
        self.commit_step(before, step, route.as_ref()).await
    }

    /// A dispatch that has advanced meanwhile got its keys with that step.
    async fn index(&self, dispatch: &Dispatch) -> Result<(), PortError> {
        let change = self.codec.indexing(dispatch).map_err(|error| broken(INDEX, error))?;
        let mut update = change.into_update();
        update.equals("status", text(dispatch.status.as_str()));
        // Idempotent, so the SDK may retry it.
        let request = self.client.update_item().table_name(&self.table);
        let request = update.fill(request.set_key(Some(key(dispatch.id.as_str(), keys::DISPATCH_SK))));
        match request.send().await.map_err(|error| DynamoFailure::from_sdk(&error)) {
            Err(failure) if failure.meaning != Meaning::ConditionFailed => Err(failure.into_port(INDEX)),
            _ => Ok(()),
        }
    }

    /// A user's list comes from GSI2, which projects whole items. A driver's list comes from the completed rides in
    /// GSI2 and the dispatches they refer to. The index is eventually consistent, typically within milliseconds.
    async fn list(&self, owner: &Owner, limit: u16, after: Option<String>) -> Result<Page<StoredDispatch>, PortError> {
        let limit = limit.clamp(1, LIST_MAX);
        let after = after.map(|token| PageToken::parse(&token)).transpose().map_err(|error| broken(LIST, error))?;
        let partition = match owner {
            Owner::User(user) => keys::gsi2_user_pk(user),
            Owner::Driver(driver) => keys::gsi2_driver_pk(driver),
        };
        let output = self
            .client
            .query()
            .table_name(&self.table)
            .index_name("GSI2")
            .key_condition_expression("GSI2PK = :owner AND begins_with(GSI2SK, :dispatches)")
            .expression_attribute_values(":owner", text(partition))
            .expression_attribute_values(":dispatches", text(keys::GSI2_DISPATCH_PREFIX))
            .scan_index_forward(false)
            .limit(limit.into())
            .set_exclusive_start_key(after.map(|token| token.start_key(owner)))
            .send()
            .await
            .map_err(|error| DynamoFailure::from_sdk(&error).into_port(LIST))?;
        let more = output.last_evaluated_key.is_some();
        let entries = output.items.unwrap_or_default();
        let next = entries.last().filter(|_| more).and_then(PageToken::from_last_entry).map(|token| token.text());
        let items = match owner {
            Owner::User(_) => entries,
            Owner::Driver(_) => self.in_order_of(&entries).await?,
        };
        let read = |item| self.readable(DISPATCH, item, |item| self.codec.read_dispatch(item));
        Ok(Page { items: items.into_iter().filter_map(read).collect(), next })
    }

    async fn rides_unchanged_since(
        &self,
        before: EpochMs,
        except: &HashSet<DispatchId>,
    ) -> Result<Vec<OngoingRide>, PortError> {
        let mut found: Vec<(String, OngoingRide)> = Vec::new();
        for status in [DispatchStatus::Accepted, DispatchStatus::InProgress] {
            for partition in self.codec.shards.all(&keys::gsi1_dispatch_status(status)) {
                found.extend(self.rides_in(&partition, before, except).await?);
            }
        }
        found.sort();
        Ok(found.into_iter().map(|(_, ride)| ride).collect())
    }

    async fn reviews(&self, limit: u16, after: Option<String>) -> Result<Page<OpenReview>, PortError> {
        let after = after.map(|token| PageToken::parse(&token)).transpose().map_err(|error| broken(REVIEWS, error))?;
        let output = self
            .client
            .query()
            .table_name(&self.table)
            .index_name("GSI1")
            .key_condition_expression("GSI1PK = :open")
            .expression_attribute_values(":open", text(keys::GSI1_OPEN_REVIEWS))
            .projection_expression("PK, GSI1SK")
            .limit(limit.clamp(1, LIST_MAX).into())
            .set_exclusive_start_key(after.map(|token| token.review_key()))
            .send()
            .await
            .map_err(|error| DynamoFailure::from_sdk(&error).into_port(REVIEWS))?;
        let entries: Vec<PageToken> = output
            .items
            .into_iter()
            .flatten()
            .filter_map(|entry| PageToken::from_review(string(&entry, "GSI1SK")?))
            .collect();
        let next = entries.last().filter(|_| output.last_evaluated_key.is_some()).map(PageToken::text);
        let pks: Vec<&str> = entries.iter().map(|entry| entry.dispatch.as_str()).collect();
        let mut found: HashMap<String, StoredDispatch> = self
            .get_many(REVIEWS, &pks, keys::DISPATCH_SK)
            .await?
            .into_iter()
            .filter_map(|item| self.readable(DISPATCH, item, |item| self.codec.read_dispatch(item)))
            .map(|stored| (stored.state.id.to_string(), stored))
            .collect();
        let with_dispatch = |entry: PageToken| {
            let stored = found.remove(entry.dispatch.as_str())?;
            Some(OpenReview { requested_at: entry.sort_time, stored })
        };
        Ok(Page { items: entries.into_iter().filter_map(with_dispatch).collect(), next })
    }

    /// Queries GSI1 per shard, oldest first. Local time repeats an hour when daylight saving time ends: during that
    /// hour the order is wrong, and offers are swept up to an hour too early or too late.
    async fn open_since_before(
        &self,
        before: EpochMs,
        limit: u16,
        except: &HashSet<DispatchId>,
    ) -> Result<Vec<DispatchId>, PortError> {
        let mut found: Vec<(String, DispatchId)> = Vec::new();
        for partition in self.codec.shards.all(&keys::gsi1_dispatch_status(DispatchStatus::Requested)) {
            found.extend(self.open_in(&partition, before, (limit.into(), except)).await?);
        }
        found.sort();
        found.truncate(limit.into());
        Ok(found.into_iter().map(|(_, id)| id).collect())
    }

    async fn append_route(&self, id: &DispatchId, number: u32, points: &[RoutePoint]) -> Result<(), PortError> {
        let item = write_item(DISPATCH_ROUTE, &self.codec.route_chunk(id, number, points));
        let item = item.map_err(|error| broken(APPEND_ROUTE, error))?;
        let request = self.client.put_item().table_name(&self.table).set_item(Some(item));
        request.send().await.map_err(|error| DynamoFailure::from_sdk(&error).into_port(APPEND_ROUTE))?;
        Ok(())
    }

    async fn read_route(&self, id: &DispatchId) -> Result<Vec<RoutePoint>, PortError> {
        let mut points = Vec::new();
        let mut start = None;
        for _ in 0..ROUTE_PAGES_MAX {
            let (items, next) = self.route_page(READ_ROUTE, id, start).await?;
            for item in items {
                let key = key_text(&item);
                let note = |error: &ItemError| self.metrics.record_unreadable(DISPATCH_ROUTE, &key, error);
                let chunk: Result<RouteChunkItem, _> = read_item(DISPATCH_ROUTE, item);
                let Ok(chunk) = chunk.inspect_err(note) else { continue };
                points.extend(route_points(&chunk).filter_map(|point| point.inspect_err(note).ok()));
            }
            start = next;
            if start.is_none() {
                return Ok(points);
            }
        }
        let too_long = DynamoFailure::new(Meaning::Refused, "RouteTooLong", "the route has more pages than are read");
        Err(too_long.into_port(READ_ROUTE))
    }
}

impl DynamoStore {
    /// One page of the recorded positions of a ride, as stored, and where the next page starts.
    pub(super) async fn route_page(
        &self,
        action: &'static str,
        id: &DispatchId,
        start: Option<Item>,
    ) -> Result<(Vec<Item>, Option<Item>), PortError> {
        let output = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .key_condition_expression("PK = :dispatch AND begins_with(SK, :chunks)")
            .expression_attribute_values(":dispatch", text(id.as_str()))
            .expression_attribute_values(":chunks", text(keys::ROUTE_PREFIX))
            .set_exclusive_start_key(start)
            .send()
            .await
            .map_err(|error| DynamoFailure::from_sdk(&error).into_port(action))?;
        Ok((output.items.unwrap_or_default(), output.last_evaluated_key))
    }

    /// The open requests of one partition. It reads several pages, because requests with a live offer may fill the
    /// first ones.
    async fn open_in(
        &self,
        partition: &str,
        before: EpochMs,
        (limit, except): (usize, &HashSet<DispatchId>),
    ) -> Result<Vec<(String, DispatchId)>, PortError> {
        let (mut found, mut start) = (Vec::new(), None);
        let times = SweepTimes::new(&self.codec, before);
        for _ in 0..SWEEP_PAGES_MAX {
            let output = self
                .client
                .query()
                .table_name(&self.table)
                .index_name("GSI1")
                .key_condition_expression("GSI1PK = :open")
                .filter_expression(
                    "attribute_not_exists(matching.timeoutAt) OR matching.timeoutAt <= :ended OR matching.timeoutAt > \
                     :latest",
                )
                .projection_expression("PK, GSI1SK")
                .expression_attribute_values(":open", text(partition))
                .expression_attribute_values(":ended", text(times.ended.as_str()))
                .expression_attribute_values(":latest", text(times.latest_end.as_str()))
                .limit(SWEEP_PAGE)
                .set_exclusive_start_key(start)
                .send()
                .await
                .map_err(|error| DynamoFailure::from_sdk(&error).into_port(SWEEP))?;
            found.extend(output.items.into_iter().flatten().filter_map(|entry| {
                let sort_key = string(&entry, "GSI1SK").filter(|key| times.is_due(key))?.to_owned();
                let id = dispatch_of(&entry).filter(|id| !except.contains(id))?;
                Some((sort_key, id))
            }));
            start = output.last_evaluated_key;
            if start.is_none() || found.len() >= limit {
                break;
            }
        }
        Ok(found)
    }

    /// The rides of one partition that were requested and last changed before `before`. The local times of a city have
    /// one offset, except in the hour in which it changes.
    async fn rides_in(
        &self,
        partition: &str,
        before: EpochMs,
        except: &HashSet<DispatchId>,
    ) -> Result<Vec<(String, OngoingRide)>, PortError> {
        let (mut found, mut start) = (Vec::new(), None);
        for _ in 0..SWEEP_PAGES_MAX {
            let output = self
                .client
                .query()
                .table_name(&self.table)
                .index_name("GSI1")
                .key_condition_expression("GSI1PK = :rides AND GSI1SK < :requested")
                .filter_expression("attribute_not_exists(updatedAt) OR updatedAt <= :changed")
                .projection_expression("PK, GSI1SK, driverId")
                .expression_attribute_values(":rides", text(partition))
                .expression_attribute_values(":requested", text(self.codec.city.sort_time(before)))
                .expression_attribute_values(":changed", text(self.codec.city.timestamp(before)))
                .limit(SWEEP_PAGE)
                .set_exclusive_start_key(start)
                .send()
                .await
                .map_err(|error| DynamoFailure::from_sdk(&error).into_port(RIDES))?;
            found.extend(output.items.into_iter().flatten().filter_map(|entry| {
                let sort_key = string(&entry, "GSI1SK")?.to_owned();
                let id = dispatch_of(&entry).filter(|id| !except.contains(id))?;
                let driver = string(&entry, "driverId").and_then(|id| DriverId::parse(id).ok());
                Some((sort_key, OngoingRide { id, driver }))
            }));
            start = output.last_evaluated_key;
            if start.is_none() {
                break;
            }
        }
        Ok(found)
    }

    /// The dispatches that the entries of a list refer to, in the order of the entries.
    async fn in_order_of(&self, entries: &[Item]) -> Result<Vec<Item>, PortError> {
        let ids: Vec<DispatchId> = entries.iter().filter_map(dispatch_of).collect();
        let pks: Vec<&str> = ids.iter().map(DispatchId::as_str).collect();
        let mut found = self.get_many(LIST, &pks, keys::DISPATCH_SK).await?;
        found.sort_by_key(|item| pks.iter().position(|pk| string(item, "PK") == Some(pk)));
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use dispatch_core::ids::UserId;

    use super::*;

    #[test]
    fn a_page_token_names_a_place_in_the_owners_own_list_only() {
        let token = PageToken::parse("2025-05-25T14:30:00.000_01JQ").unwrap();
        assert_eq!(token.text(), "2025-05-25T14:30:00.000_01JQ");
        let start = token.start_key(&Owner::User(UserId::parse("user#1").unwrap()));
        assert_eq!(start.get("GSI2PK"), Some(&text("USER#user#1")));
        assert_eq!(start.get("PK"), Some(&text("dispatch#01JQ")));
    }

    #[test]
    fn other_page_tokens_are_refused() {
        for bad in ["", "_", "2025-05-25T14:30:00.000", "yesterday_01JQ", "2025-05-25T14:30:00.000_a#b"] {
            assert!(PageToken::parse(bad).is_err(), "{bad}");
        }
    }
}
