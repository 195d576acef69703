//! [`DispatchStore`] on DynamoDB: reads, lists and routes. `transactions` has the writes that decide.

use async_trait::async_trait;
use aws_sdk_dynamodb::types::AttributeValue;
use dispatch_core::dispatch::{DispatchStatus, Step};
use dispatch_core::ids::DispatchId;
use dispatch_core::route::RoutePoint;
use dispatch_core::time::EpochMs;
use thiserror::Error;

use super::convert::{DISPATCH_ROUTE, Item, read_item, route_points, write_item};
use super::entity::RouteChunkItem;
use super::error::{DynamoFailure, Meaning};
use super::expression::{key, text};
use super::{DynamoStore, broken, keys};
use crate::ports::{
    Commit, CreateOutcome, DispatchStore, NewDispatch, Owner, Page, PortError, StoredDispatch, TravelledRoute,
};

const LOAD: &str = "reading a dispatch";
const LIST: &str = "listing dispatches";
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
pub struct PageTokenError;

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
    fn start_key(&self, owner: &Owner) -> Item {
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

    /// The token for the last entry of a page: a dispatch, or a completed ride that refers to one.
    fn from_last_entry(entry: &Item) -> Option<Self> {
        let sort_time = string(entry, "GSI2SK")?.strip_prefix(keys::GSI2_DISPATCH_PREFIX)?;
        Some(Self { sort_time: sort_time.to_owned(), dispatch: dispatch_of(entry)? })
    }
}

/// Whether a text has the form of a page token, the only input of [`DispatchStore::list`] that can be invalid.
pub(crate) fn is_page_token(text: &str) -> bool {
    PageToken::parse(text).is_ok()
}

fn string<'a>(item: &'a Item, name: &str) -> Option<&'a str> {
    match item.get(name) {
        Some(AttributeValue::S(text)) => Some(text),
        _ => None,
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
        let items = items.into_iter().map(|item| self.codec.read_dispatch(item)).collect::<Result<_, _>>();
        Ok(Page { items: items.map_err(|error| broken(LIST, error))?, next })
    }

    /// Queries GSI1 per shard, oldest first. Local time repeats an hour when daylight saving time ends: during that
    /// hour the order is wrong, and offers are swept up to an hour too early or too late.
    async fn open_since_before(&self, before: EpochMs, limit: u16) -> Result<Vec<DispatchId>, PortError> {
        let mut found: Vec<(String, DispatchId)> = Vec::new();
        for partition in self.codec.shards.all(&keys::gsi1_dispatch_status(DispatchStatus::Requested)) {
            found.extend(self.open_in(&partition, before, limit.into()).await?);
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
                .map_err(|error| DynamoFailure::from_sdk(&error).into_port(READ_ROUTE))?;
            for item in output.items.unwrap_or_default() {
                let chunk: Result<RouteChunkItem, _> = read_item(DISPATCH_ROUTE, item);
                let chunk = chunk.and_then(|chunk| route_points(&chunk));
                points.extend(chunk.map_err(|error| broken(READ_ROUTE, error))?);
            }
            start = output.last_evaluated_key;
            if start.is_none() {
                return Ok(points);
            }
        }
        let too_long = DynamoFailure::new(Meaning::Refused, "RouteTooLong", "the route has more pages than are read");
        Err(too_long.into_port(READ_ROUTE))
    }
}

impl DynamoStore {
    /// The open requests of one partition. It reads several pages, because requests with a live offer may fill the
    /// first ones.
    async fn open_in(
        &self,
        partition: &str,
        before: EpochMs,
        limit: usize,
    ) -> Result<Vec<(String, DispatchId)>, PortError> {
        let (mut found, mut start) = (Vec::new(), None);
        for _ in 0..SWEEP_PAGES_MAX {
            let output = self
                .client
                .query()
                .table_name(&self.table)
                .index_name("GSI1")
                .key_condition_expression("GSI1PK = :open AND GSI1SK < :before")
                .filter_expression("attribute_not_exists(matching.timeoutAt) OR matching.timeoutAt <= :ended")
                .projection_expression("PK, GSI1SK")
                .expression_attribute_values(":open", text(partition))
                .expression_attribute_values(":before", text(self.codec.city.sort_time(before)))
                .expression_attribute_values(":ended", text(self.codec.city.timestamp_ms(before)))
                .limit(SWEEP_PAGE)
                .set_exclusive_start_key(start)
                .send()
                .await
                .map_err(|error| DynamoFailure::from_sdk(&error).into_port(SWEEP))?;
            found.extend(output.items.into_iter().flatten().filter_map(|entry| {
                let sort_key = string(&entry, "GSI1SK")?.to_owned();
                Some((sort_key, dispatch_of(&entry)?))
            }));
            start = output.last_evaluated_key;
            if start.is_none() || found.len() >= limit {
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
