//! [`PersonStore`] on DynamoDB: erases and exports the data of one person, page by page.
//!
//! A page is a part of the person's own partition, or some of a user's dispatches. Workers may not delete items of the
//! table, so what is not needed any more is emptied and expires. Every write can be repeated.

use async_trait::async_trait;
use dispatch_core::ids::{DispatchId, UserId};
use dispatch_core::time::EpochMs;
use futures::{StreamExt, TryStreamExt, stream};

use crate::adapters::store::convert::Item;
use crate::adapters::store::dispatches::PageToken;
use crate::adapters::store::erasure::{self, Moment};
use crate::adapters::store::error::{DynamoFailure, Meaning};
use crate::adapters::store::expression::{Expression, key, string, text};
use crate::adapters::store::person_items::{
    self, Continuation, DRIVER_STATUS_HISTORY, Part, USER_DISPATCH_HISTORY, kind_of, shown,
};
use crate::adapters::store::{DynamoStore, broken, keys};
use crate::ports::{
    DataKind, ErasedPage, Erasure, PageErasure, Person, PersonPage, PersonStore, PortError, ProfileErasure,
};

const ERASE: &str = "erasing the data of a person";
const EXPORT: &str = "exporting the data of a person";
const RECEIPT: &str = "storing the record of an erasure";

/// Items of the person's partition on one page. Each may lead to a dispatch with its route.
const OWN_PER_PAGE: i32 = 10;

/// Dispatches on one page. A route of two hours has about 120 items, and a request has ten seconds.
const DISPATCHES_PER_PAGE: i32 = 5;

/// Writes at the same time.
const WRITES_AT_ONCE: usize = 8;

/// What is written instead of an item, on condition that the item is still as read.
struct Replacement {
    before: Item,
    after: Item,
}

/// Why a dispatch was left as it is.
enum SkipReason {
    /// It has not ended.
    Open(DispatchId),
    /// There is none, or the person is not part of it.
    Gone,
}

#[async_trait]
impl PersonStore for DynamoStore {
    async fn erasure(&self, person: &Person) -> Result<Option<Erasure>, PortError> {
        let request = self.client.query().table_name(&self.table).consistent_read(true);
        let request = request.key_condition_expression("PK = :person").scan_index_forward(false).limit(1);
        let found = request.expression_attribute_values(":person", text(keys::erasure_pk(person))).send().await;
        let found = found.map_err(|error| DynamoFailure::from_sdk(&error).into_port(RECEIPT))?;
        let newest = found.items.into_iter().flatten().next();
        newest.map(|item| person_items::read_erasure(item).map_err(|error| broken(RECEIPT, error))).transpose()
    }

    async fn keep_erasure(&self, person: &Person, erasure: &Erasure) -> Result<(), PortError> {
        let item = person_items::erasure_item(person, erasure).map_err(|error| broken(RECEIPT, error))?;
        let request = self.client.put_item().table_name(&self.table).set_item(Some(item));
        request.send().await.map_err(|error| DynamoFailure::from_sdk(&error).into_port(RECEIPT))?;
        Ok(())
    }

    async fn open_dispatch(&self, person: &Person) -> Result<Option<DispatchId>, PortError> {
        let profile = self.get(ERASE, person.as_str(), keys::PROFILE_SK).await?;
        let Some(dispatch) = profile.as_ref().and_then(person_items::current_dispatch) else { return Ok(None) };
        Ok(self.is_open(&dispatch).await?.then_some(dispatch))
    }

    async fn erase_profile(&self, person: &Person, now: EpochMs) -> Result<ProfileErasure, PortError> {
        let at = self.moment(now);
        let mut tries = self.tries();
        loop {
            let Some(before) = self.get(ERASE, person.as_str(), keys::PROFILE_SK).await? else {
                return Ok(ProfileErasure::Done { changed: false });
            };
            if let Some(dispatch) = person_items::current_dispatch(&before)
                && self.is_open(&dispatch).await?
            {
                return Ok(ProfileErasure::OnDispatch(dispatch));
            }
            let after = erasure::profile(&before, &at);
            match self.replace(Replacement { before, after }, "currentStatus").await {
                None => return Ok(ProfileErasure::Done { changed: true }),
                Some(failure) => {
                    if failure.meaning == Meaning::Refused || !tries.pause(&failure).await {
                        return Err(failure.into_port(ERASE));
                    }
                }
            }
        }
    }

    async fn erase_page(&self, person: &Person, after: Option<&str>, now: EpochMs) -> Result<PageErasure, PortError> {
        let at = self.moment(now);
        match part(person, after)? {
            Part::Own(start) => self.erase_own(person, start, &at).await,
            Part::Dispatches(user, start) => self.erase_dispatches(&user, start.as_ref(), &at).await,
        }
    }

    async fn export_page(&self, person: &Person, after: Option<&str>) -> Result<PersonPage, PortError> {
        let Ok(part) = part(person, after) else { return Ok(PersonPage { items: Vec::new(), next: None }) };
        match part {
            Part::Own(start) => {
                let (items, last) = self.own_items(EXPORT, person, start).await?;
                let mut found = Vec::new();
                for item in items {
                    if kind_of(&item) == DataKind::Ride
                        && let Some(id) = person_items::dispatch_of(&item)
                    {
                        found.extend(self.ride_of_driver(&id, person).await?);
                    }
                    found.push((kind_of(&item), shown(item)));
                }
                Ok(PersonPage { items: found, next: Continuation::after_own(person, last).map(|next| next.text()) })
            }
            Part::Dispatches(user, start) => {
                let (ids, next) = self.dispatches_of(EXPORT, &user, start.as_ref()).await?;
                let mut found = Vec::new();
                for id in ids {
                    let dispatch = self.get(EXPORT, id.as_str(), keys::DISPATCH_SK).await?;
                    found.extend(dispatch.map(|item| (DataKind::Dispatch, shown(item))));
                    found.extend(
                        self.route_items(EXPORT, &id).await?.into_iter().map(|it| (DataKind::Route, shown(it))),
                    );
                }
                Ok(PersonPage { items: found, next: next.map(|next| next.text()) })
            }
        }
    }

    fn is_continuation(&self, after: &str) -> bool {
        Continuation::parse(after).is_some()
    }
}

impl DynamoStore {
    fn moment(&self, now: EpochMs) -> Moment {
        Moment { stamp: self.codec.city.timestamp(now), seconds: now.0.div_euclid(1000) }
    }

    async fn is_open(&self, id: &DispatchId) -> Result<bool, PortError> {
        let dispatch = self.get(ERASE, id.as_str(), keys::DISPATCH_SK).await?;
        Ok(dispatch.is_some_and(|dispatch| !erasure::has_ended(&dispatch)))
    }

    async fn erase_own(&self, person: &Person, start: Option<String>, at: &Moment) -> Result<PageErasure, PortError> {
        let (items, last) = self.own_items(ERASE, person, start).await?;
        let mut page = ErasedPage::default();
        for item in items {
            if string(&item, "SK") == Some(keys::PROFILE_SK) {
                continue;
            }
            let kind = kind_of(&item);
            *page.found.entry(kind).or_default() += 1;
            // The way of a driver is in the dispatch and its route.
            let driven = matches!(person, Person::Driver(_)).then(|| person_items::dispatch_of(&item)).flatten();
            if let Some(id) = driven {
                match self.erase_driven(&id, person, at, &mut page).await? {
                    Ok(()) => page.dispatches.push(id),
                    Err(SkipReason::Gone) => {}
                    Err(SkipReason::Open(id)) => return Ok(PageErasure::OpenDispatch(id)),
                }
            }
            let after = match string(&item, "EntityType") {
                Some(USER_DISPATCH_HISTORY) => erasure::user_history(&item, at),
                Some(DRIVER_STATUS_HISTORY) => erasure::driver_history(&item, at),
                _ => continue,
            };
            if !erasure::is_erased(&item) {
                self.replace_surely(Replacement { before: item, after }).await?;
            }
        }
        page.next = Continuation::after_own(person, last).map(|next| next.text());
        Ok(PageErasure::Done(page))
    }

    async fn erase_dispatches(
        &self,
        user: &UserId,
        start: Option<&PageToken>,
        at: &Moment,
    ) -> Result<PageErasure, PortError> {
        let (ids, next) = self.dispatches_of(ERASE, user, start).await?;
        let mut page = ErasedPage { next: next.map(|next| next.text()), ..ErasedPage::default() };
        for id in ids {
            let own = |item: &Item| string(item, "userId") == Some(user.as_str());
            let dispatch = self.get(ERASE, id.as_str(), keys::DISPATCH_SK).await?;
            if let Some(dispatch) = dispatch.filter(|item| own(item) && erasure::has_ended(item)) {
                self.forget_destination(&dispatch).await?;
            }
            match self.erase_dispatch(&id, own, |item| erasure::dispatch(item, at)).await? {
                Ok(()) => {}
                Err(SkipReason::Gone) => continue,
                Err(SkipReason::Open(id)) => return Ok(PageErasure::OpenDispatch(id)),
            }
            *page.found.entry(DataKind::Dispatch).or_default() += 1;
            self.erase_route(&id, at, &mut page).await?;
            page.dispatches.push(id);
        }
        Ok(PageErasure::Done(page))
    }

    async fn erase_driven(
        &self,
        id: &DispatchId,
        person: &Person,
        at: &Moment,
        page: &mut ErasedPage,
    ) -> Result<Result<(), SkipReason>, PortError> {
        let own = |item: &Item| string(item, "driverId") == Some(person.as_str());
        let done = self.erase_dispatch(id, own, erasure::driven_dispatch).await?;
        if done.is_ok() {
            self.erase_route(id, at, page).await?;
        }
        Ok(done)
    }

    /// Replaces a dispatch that has ended, unless nothing of it would change.
    async fn erase_dispatch(
        &self,
        id: &DispatchId,
        own: impl Fn(&Item) -> bool,
        erased: impl Fn(&Item) -> Item,
    ) -> Result<Result<(), SkipReason>, PortError> {
        let mut tries = self.tries();
        loop {
            let before = self.get(ERASE, id.as_str(), keys::DISPATCH_SK).await?;
            let Some(before) = before.filter(|item| own(item)) else { return Ok(Err(SkipReason::Gone)) };
            if !erasure::has_ended(&before) {
                return Ok(Err(SkipReason::Open(id.clone())));
            }
            let has_route = before.get("route").is_some_and(|it| !it.as_l().is_ok_and(Vec::is_empty));
            if erasure::is_erased(&before) && !has_route {
                return Ok(Ok(()));
            }
            let after = erased(&before);
            match self.replace(Replacement { before, after }, "ver").await {
                None => return Ok(Ok(())),
                Some(failure) => {
                    if failure.meaning == Meaning::Refused || !tries.pause(&failure).await {
                        return Err(failure.into_port(ERASE));
                    }
                }
            }
        }
    }

    async fn erase_route(&self, id: &DispatchId, at: &Moment, page: &mut ErasedPage) -> Result<(), PortError> {
        let chunks = self.route_items(ERASE, id).await?;
        let filled: Vec<Replacement> = chunks
            .into_iter()
            .filter(|chunk| !erasure::is_erased(chunk))
            .map(|before| Replacement { after: erasure::route(&before, at), before })
            .collect();
        *page.found.entry(DataKind::Route).or_default() += u32::try_from(filled.len()).unwrap_or(u32::MAX);
        let writes = stream::iter(filled).map(|chunk| self.replace_surely(chunk));
        writes.buffer_unordered(WRITES_AT_ONCE).try_collect().await
    }

    /// Replaces an item that nothing else changes. One that has expired meanwhile stays away.
    async fn replace_surely(&self, replacement: Replacement) -> Result<(), PortError> {
        let Some(failure) = self.replace(replacement, "PK").await else { return Ok(()) };
        match failure.meaning {
            Meaning::ConditionFailed => Ok(()),
            _ => Err(failure.into_port(ERASE)),
        }
    }

    /// Writes an item in place of another, on condition that `attribute` is still as read.
    async fn replace(&self, replacement: Replacement, attribute: &str) -> Option<DynamoFailure> {
        let Replacement { before, after } = replacement;
        let mut condition = Expression::default();
        condition.exists();
        match before.get(attribute) {
            Some(value) => condition.equals(attribute, value.clone()),
            None => condition.missing(attribute),
        }
        // Repeating the request writes the same item, or fails its condition.
        let request = self.once.put_item().table_name(&self.table).set_item(Some(after));
        condition.fill_put(request).send().await.err().map(|error| DynamoFailure::from_sdk(&error))
    }

    /// A page of the person's partition, and the sort key after which the next one begins.
    async fn own_items(
        &self,
        action: &'static str,
        person: &Person,
        start: Option<String>,
    ) -> Result<(Vec<Item>, Option<String>), PortError> {
        let output = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .key_condition_expression("PK = :person")
            .expression_attribute_values(":person", text(person.as_str()))
            .limit(OWN_PER_PAGE)
            .set_exclusive_start_key(start.map(|sk| key(person.as_str(), &sk)))
            .send()
            .await
            .map_err(|error| DynamoFailure::from_sdk(&error).into_port(action))?;
        let last = output.last_evaluated_key.as_ref().and_then(|last| string(last, "SK")).map(ToOwned::to_owned);
        let items = output.items.unwrap_or_default().into_iter();
        Ok((items.filter(|it| string(it, "SK") != Some(keys::PROFILE_SK) || !erasure::is_erased(it)).collect(), last))
    }

    /// Ids of a page of the user's dispatches, newest first.
    async fn dispatches_of(
        &self,
        action: &'static str,
        user: &UserId,
        start: Option<&PageToken>,
    ) -> Result<(Vec<DispatchId>, Option<Continuation>), PortError> {
        let owner = crate::ports::Owner::User(user.clone());
        let output = self
            .client
            .query()
            .table_name(&self.table)
            .index_name("GSI2")
            .key_condition_expression("GSI2PK = :user")
            .expression_attribute_values(":user", text(keys::gsi2_user_pk(user)))
            .scan_index_forward(false)
            .limit(DISPATCHES_PER_PAGE)
            .set_exclusive_start_key(start.map(|token| token.start_key(&owner)))
            .send()
            .await
            .map_err(|error| DynamoFailure::from_sdk(&error).into_port(action))?;
        let more = output.last_evaluated_key.is_some();
        let entries = output.items.unwrap_or_default();
        let next = entries.last().filter(|_| more).and_then(PageToken::from_last_entry).map(Continuation::Dispatches);
        Ok((entries.iter().filter_map(person_items::dispatch_of).collect(), next))
    }

    /// The recorded positions of a ride, as stored.
    async fn route_items(&self, action: &'static str, id: &DispatchId) -> Result<Vec<Item>, PortError> {
        let (mut items, mut start) = (Vec::new(), None);
        loop {
            let (page, next) = self.route_page(action, id, start).await?;
            items.extend(page);
            start = next;
            if start.is_none() {
                return Ok(items);
            }
        }
    }

    /// What a completed ride holds about its driver: without the user's places.
    async fn ride_of_driver(
        &self,
        id: &DispatchId,
        person: &Person,
    ) -> Result<Vec<(DataKind, serde_json::Value)>, PortError> {
        let dispatch = self.get(EXPORT, id.as_str(), keys::DISPATCH_SK).await?;
        let Some(dispatch) = dispatch.filter(|item| string(item, "driverId") == Some(person.as_str())) else {
            return Ok(Vec::new());
        };
        let mut found = vec![(DataKind::Dispatch, shown(person_items::part_of_driver(dispatch)))];
        found.extend(self.route_items(EXPORT, id).await?.into_iter().map(|item| (DataKind::Route, shown(item))));
        Ok(found)
    }
}

/// The part of the data on a page. Callers check continuations, so one that cannot be read was stored by another
/// release.
fn part(person: &Person, after: Option<&str>) -> Result<Part, PortError> {
    let Some(after) = after else { return Ok(Part::Own(None)) };
    let part = Continuation::parse(after).and_then(|next| next.part(person));
    part.ok_or_else(|| {
        DynamoFailure::new(Meaning::Refused, "Continuation", "the continuation cannot be read").into_port(ERASE)
    })
}
