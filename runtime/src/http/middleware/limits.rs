//! Limits on the concurrent work of one process.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::ports::Person;

/// Maximum concurrent requests of one process. A request spends most of its time waiting for DynamoDB and Redis. At 20
/// ms each, this many make about 25,000 requests a second, more than a process can parse, so the limit is only reached
/// when a backend service does not respond.
pub const IN_FLIGHT_MAX: usize = 512;

/// Maximum open event streams of one process. Less memory means fewer.
pub const STREAMS_MAX: usize = 10_000;

/// Maximum open event streams of one person: a phone, a tablet and a browser, and two that the network has cut without
/// a word.
const STREAMS_PER_PERSON: usize = 5;

/// Maximum concurrent requests of one person. An app has a few; at its rate limit, one with bodies as slow as allowed
/// could otherwise take most places of a small process.
const IN_FLIGHT_PER_PERSON: usize = 32;

/// Whose limit a request or a stream exceeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Exceeded {
    Process,
    /// The share of a client address.
    Address,
}

/// The limits on concurrent requests, shared by all routes of a process: of all clients, of each client address, and of
/// each person.
#[derive(Clone)]
pub struct Admission {
    all: Arc<Semaphore>,
    addresses: Shares<IpAddr>,
    persons: Shares<String>,
}

impl Admission {
    /// Admits at most `in_flight_max` concurrent requests.
    pub fn new(in_flight_max: usize) -> Self {
        let all = Arc::new(Semaphore::new(in_flight_max));
        Self { all, addresses: Shares::new(usize::MAX), persons: Shares::new(IN_FLIGHT_PER_PERSON) }
    }

    /// Of these, at most `most` from one client address.
    #[must_use]
    pub fn with_address_share(self, most: usize) -> Self {
        Self { addresses: Shares::new(most), ..self }
    }

    /// Admits a request, unless there are too many. Without a known address, no share counts.
    pub(in crate::http) fn admit(&self, address: Option<IpAddr>) -> Result<Admitted, Exceeded> {
        let place = self.place(address)?;
        Ok(Admitted { address, place: Arc::new(Mutex::new(Some(place))) })
    }

    /// The share of a person; `None` if its requests use all of it.
    pub(in crate::http) fn person(&self, subject: &str) -> Option<Share<String>> {
        self.persons.take(subject.to_owned())
    }

    fn place(&self, address: Option<IpAddr>) -> Result<Place, Exceeded> {
        let share = match address {
            Some(address) => Some(self.addresses.take(address).ok_or(Exceeded::Address)?),
            None => None,
        };
        let permit = Arc::clone(&self.all).try_acquire_owned().map_err(|_| Exceeded::Process)?;
        Ok(Place { _permit: permit, _share: share })
    }
}

/// How much each owner holds at the moment.
#[derive(Clone)]
pub(in crate::http) struct Shares<K> {
    most: usize,
    held: Arc<Mutex<HashMap<K, usize>>>,
}

impl<K: Clone + Eq + Hash> Shares<K> {
    fn new(most: usize) -> Self {
        Self { most, held: Arc::default() }
    }

    /// Takes one place of an owner; `None` if it holds its share.
    fn take(&self, owner: K) -> Option<Share<K>> {
        let mut all = self.held.lock();
        let held = all.entry(owner.clone()).or_default();
        if *held >= self.most {
            return None;
        }
        *held += 1;
        drop(all);
        Some(Share { all: self.clone(), owner })
    }
}

/// One place of an owner's share.
pub(in crate::http) struct Share<K: Clone + Eq + Hash> {
    all: Shares<K>,
    owner: K,
}

impl<K: Clone + Eq + Hash> Drop for Share<K> {
    fn drop(&mut self) {
        let mut all = self.all.held.lock();
        if let Some(held) = all.get_mut(&self.owner) {
            *held -= 1;
            if *held == 0 {
                all.remove(&self.owner);
            }
        }
    }
}

impl Default for Admission {
    fn default() -> Self {
        Self::new(IN_FLIGHT_MAX)
    }
}

/// A place among the concurrent requests.
struct Place {
    _permit: OwnedSemaphorePermit,
    _share: Option<Share<IpAddr>>,
}

/// The place of an admitted request, which it may give back before its end.
#[derive(Clone)]
pub(in crate::http) struct Admitted {
    address: Option<IpAddr>,
    place: Arc<Mutex<Option<Place>>>,
}

impl Admitted {
    /// Gives the place back until [`Self::return_to`]: while a request waits for the token issuer, it must not keep
    /// others from being served.
    pub(in crate::http) fn leave(&self) {
        self.place.lock().take();
    }

    /// Takes a place again, if there is one.
    pub(in crate::http) fn return_to(&self, admission: &Admission) -> Result<(), Exceeded> {
        let place = admission.place(self.address)?;
        *self.place.lock() = Some(place);
        Ok(())
    }
}

/// The limits on open event streams: of a process and of each person.
#[derive(Clone)]
pub struct StreamPlaces(Arc<Places>);

struct Places {
    all: Arc<Semaphore>,
    addresses: Shares<IpAddr>,
    /// The open streams of each person, the oldest first.
    persons: Mutex<HashMap<Person, VecDeque<CancellationToken>>>,
}

impl StreamPlaces {
    /// Places for streams, of which one client address may hold `address_share`.
    pub fn new(places: usize, address_share: usize) -> Self {
        let all = Arc::new(Semaphore::new(places));
        Self(Arc::new(Places { all, addresses: Shares::new(address_share), persons: Mutex::default() }))
    }

    /// A place for a stream of this person. The person's oldest stream ends if there are too many: a phone that lost
    /// its connection cannot close the old one.
    pub(in crate::http) fn take(&self, person: &Person, address: Option<IpAddr>) -> Result<StreamPlace, Exceeded> {
        let share = match address {
            Some(address) => Some(self.0.addresses.take(address).ok_or(Exceeded::Address)?),
            None => None,
        };
        let permit = Arc::clone(&self.0.all).try_acquire_owned().map_err(|_| Exceeded::Process)?;
        let ended = CancellationToken::new();
        let mut persons = self.0.persons.lock();
        let streams = persons.entry(person.clone()).or_default();
        streams.push_back(ended.clone());
        if streams.len() > STREAMS_PER_PERSON
            && let Some(oldest) = streams.pop_front()
        {
            oldest.cancel();
        }
        drop(persons);
        let place = StreamPlace { places: self.clone(), person: person.clone(), ended, _permit: permit, _share: share };
        Ok(place)
    }
}

impl Default for StreamPlaces {
    fn default() -> Self {
        Self::new(STREAMS_MAX, usize::MAX)
    }
}

/// The place of an open stream.
pub(in crate::http) struct StreamPlace {
    places: StreamPlaces,
    person: Person,
    ended: CancellationToken,
    _permit: OwnedSemaphorePermit,
    _share: Option<Share<IpAddr>>,
}

impl StreamPlace {
    /// Is cancelled when a newer stream of the person takes the place.
    pub(in crate::http) fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        // A token is cancelled before its place is dropped only if it has left the list.
        self.ended.cancel();
        let mut persons = self.places.0.persons.lock();
        if let Some(streams) = persons.get_mut(&self.person) {
            streams.retain(|stream| !stream.is_cancelled());
            if streams.is_empty() {
                persons.remove(&self.person);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use dispatch_core::ids::UserId;

    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([203, 0, 113, last])
    }

    #[test]
    fn one_address_holds_its_share_of_the_requests_and_no_more() {
        let admission = Admission::new(4).with_address_share(2);
        let first: Vec<Admitted> = (0..2).map(|_| admission.admit(Some(address(1))).ok().unwrap()).collect();
        assert_eq!(admission.admit(Some(address(1))).err(), Some(Exceeded::Address));
        let unknown = admission.admit(None).ok().unwrap();
        let other = admission.admit(Some(address(2))).ok().unwrap();
        assert_eq!(admission.admit(Some(address(2))).err(), Some(Exceeded::Process), "of all, there are four");
        assert_eq!(admission.admit(Some(address(1))).err(), Some(Exceeded::Address));
        // A request that waits for the issuer holds nothing.
        first[0].leave();
        assert!(first[0].return_to(&admission).is_ok());
        first[0].leave();
        let last = admission.admit(Some(address(1))).ok().unwrap();
        assert_eq!(first[0].return_to(&admission), Err(Exceeded::Address));
        drop((first, last, unknown, other));
        assert!(admission.addresses.held.lock().is_empty(), "who holds nothing takes no memory");
        assert_eq!(admission.all.available_permits(), 4);
    }

    #[test]
    fn one_person_holds_its_share_of_the_requests() {
        let admission = Admission::new(100);
        let held: Vec<_> = (0..IN_FLIGHT_PER_PERSON).map(|_| admission.person("user#1").unwrap()).collect();
        assert!(admission.person("user#1").is_none());
        assert!(admission.person("user#2").is_some());
        drop(held);
        assert!(admission.person("user#1").is_some());
    }

    #[test]
    fn one_address_holds_its_share_of_the_streams() {
        let places = StreamPlaces::new(4, 2);
        let person = |id: &str| Person::User(UserId::parse(id).unwrap());
        let first = places.take(&person("user#1"), Some(address(1))).ok().unwrap();
        let second = places.take(&person("user#2"), Some(address(1))).ok().unwrap();
        assert_eq!(places.take(&person("user#3"), Some(address(1))).err(), Some(Exceeded::Address));
        assert!(places.take(&person("user#3"), Some(address(2))).is_ok());
        drop(first);
        assert!(places.take(&person("user#3"), Some(address(1))).is_ok());
        drop(second);
        assert!(places.0.addresses.held.lock().is_empty());
    }
}
