//! [`PersonStore`] in memory. A person's data is one page, and an erased profile is deleted at once.

use async_trait::async_trait;
use dispatch_core::ids::DispatchId;
use dispatch_core::time::EpochMs;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Items, MemoryStore, Table};
use crate::adapters::store::broken;
use crate::adapters::store::convert::{DISPATCH_ROUTE, Item, ItemError, read_item, write_item};
use crate::adapters::store::erasure::{self, Moment};
use crate::adapters::store::expression::string;
use crate::adapters::store::person_items::{
    Continuation, DRIVER_COMPLETED_RIDE, DRIVER_STATUS_HISTORY, USER_DISPATCH_HISTORY, current_dispatch, kind_of,
    part_of_driver, shown,
};
use crate::ports::{
    DataKind, ErasedPage, Erasure, PageErasure, Person, PersonPage, PersonStore, PortError, ProfileErasure,
};

/// Replaces the items of a partition; returns how many there are.
fn replace<T: Serialize + DeserializeOwned>(
    items: &mut Items<T>,
    pk: &str,
    entity: &'static str,
    erased: impl Fn(&Item) -> Item,
) -> Result<u32, ItemError> {
    let mut count = 0;
    for (_, item) in items.iter_mut().filter(|((item_pk, _), _)| item_pk == pk) {
        *item = read_item(entity, erased(&write_item(entity, item)?))?;
        count += 1;
    }
    Ok(count)
}

impl Table {
    /// The dispatches of a person, in any order.
    fn dispatches_of(&self, person: &Person) -> Vec<DispatchId> {
        let (name, id) = match person {
            Person::User(id) => ("userId", id.as_str()),
            Person::Driver(id) => ("driverId", id.as_str()),
        };
        // A driver with an offer is not part of the dispatch.
        let is_part = |item: &&Item| name == "userId" || string(item, "status") != Some("REQUESTED");
        let own = self.dispatches.values().filter(|item| string(item, name) == Some(id)).filter(is_part);
        own.filter_map(|item| DispatchId::parse(string(item, "PK")?).ok()).collect()
    }

    fn erase(&mut self, person: &Person, at: &Moment) -> Result<PageErasure, ItemError> {
        let dispatches = self.dispatches_of(person);
        let open = |id: &&DispatchId| self.dispatches.get(id.as_str()).is_some_and(|item| !erasure::has_ended(item));
        if let Some(open) = dispatches.iter().find(open) {
            return Ok(PageErasure::OpenDispatch(open.clone()));
        }
        let mut page = ErasedPage::default();
        let mut count = |kind, count: u32| *page.found.entry(kind).or_default() += count;
        for id in &dispatches {
            if let Some(item) = self.dispatches.get_mut(id.as_str()) {
                *item = match person {
                    Person::User(_) => erasure::dispatch(item, at),
                    Person::Driver(_) => erasure::driven_dispatch(item),
                };
                count(DataKind::Dispatch, 1);
            }
            let routes = replace(&mut self.routes, id.as_str(), DISPATCH_ROUTE, |item| erasure::route(item, at))?;
            count(DataKind::Route, routes);
        }
        let pk = person.as_str();
        count(
            DataKind::History,
            replace(&mut self.user_history, pk, USER_DISPATCH_HISTORY, |item| erasure::user_history(item, at))?
                + replace(&mut self.driver_history, pk, DRIVER_STATUS_HISTORY, |item| {
                    erasure::driver_history(item, at)
                })?,
        );
        count(DataKind::Ride, replace(&mut self.rides, pk, DRIVER_COMPLETED_RIDE, Clone::clone)?);
        page.dispatches = dispatches;
        Ok(PageErasure::Done(page))
    }

    fn export(&self, person: &Person) -> Result<Vec<Item>, ItemError> {
        fn under<T: Serialize>(items: &Items<T>, pk: &str) -> Result<Vec<Item>, ItemError> {
            let own = items.iter().filter(|((item_pk, _), _)| item_pk == pk);
            own.map(|(_, item)| write_item("item", item)).collect()
        }
        let pk = person.as_str();
        let mut found: Vec<Item> = [self.users.get(pk), self.drivers.get(pk)].into_iter().flatten().cloned().collect();
        found.extend(under(&self.user_history, pk)?);
        found.extend(under(&self.driver_history, pk)?);
        found.extend(under(&self.rides, pk)?);
        for id in self.dispatches_of(person) {
            let dispatch = self.dispatches.get(id.as_str()).cloned();
            found.extend(match person {
                Person::User(_) => dispatch,
                Person::Driver(_) => dispatch.map(part_of_driver),
            });
            found.extend(under(&self.routes, id.as_str())?);
        }
        Ok(found)
    }
}

#[async_trait]
impl PersonStore for MemoryStore {
    async fn erasure(&self, person: &Person) -> Result<Option<Erasure>, PortError> {
        Ok(self.lock().erasures.get(person.as_str()).cloned())
    }

    async fn keep_erasure(&self, person: &Person, erasure: &Erasure) -> Result<(), PortError> {
        self.lock().erasures.insert(person.as_str().to_owned(), erasure.clone());
        Ok(())
    }

    async fn open_dispatch(&self, person: &Person) -> Result<Option<DispatchId>, PortError> {
        let mut table = self.lock();
        let current = table.person(person).and_then(|profile| current_dispatch(profile));
        let is_open = |id: &DispatchId| table.dispatches.get(id.as_str()).is_some_and(|item| !erasure::has_ended(item));
        Ok(current.filter(is_open))
    }

    async fn erase_profile(&self, person: &Person, _now: EpochMs) -> Result<ProfileErasure, PortError> {
        let mut table = self.lock();
        let Some(profile) = table.person(person).cloned() else {
            return Ok(ProfileErasure::Done { changed: false });
        };
        if let Some(id) = current_dispatch(&profile)
            && table.dispatches.get(id.as_str()).is_some_and(|item| !erasure::has_ended(item))
        {
            return Ok(ProfileErasure::OnDispatch(id));
        }
        table.users.remove(person.as_str());
        table.drivers.remove(person.as_str());
        Ok(ProfileErasure::Done { changed: true })
    }

    async fn erase_page(&self, person: &Person, _after: Option<&str>, now: EpochMs) -> Result<PageErasure, PortError> {
        let at = Moment { stamp: self.codec.city.timestamp(now), seconds: now.0.div_euclid(1000) };
        self.lock().erase(person, &at).map_err(|error| broken("erasing the data of a person", error))
    }

    async fn export_page(&self, person: &Person, _after: Option<&str>) -> Result<PersonPage, PortError> {
        let found = self.lock().export(person).map_err(|error| broken("exporting the data of a person", error))?;
        let items = found.into_iter().map(|item| (kind_of(&item), shown(item))).collect();
        Ok(PersonPage { items, next: None })
    }

    fn is_continuation(&self, after: &str) -> bool {
        Continuation::parse(after).is_some()
    }
}
