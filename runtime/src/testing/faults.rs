//! Decorators that inject failures into ports, for tests.

use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use dispatch_core::candidate::DriverSnapshot;
use dispatch_core::dispatch::{Dispatch, OfferOutcome, Step};
use dispatch_core::geo::{Coordinate, Location};
use dispatch_core::ids::{DispatchId, DriverId, UserId};
use dispatch_core::person::PersonStatus;
use dispatch_core::route::RoutePoint;
use dispatch_core::time::EpochMs;
use dispatch_http_types::Notification;
use tokio::sync::mpsc::Receiver;

use crate::ports::{
    ActiveCursor, ActivePage, AvailabilityChange, Commit, CreateOutcome, Device, DevicePush, DispatchStore, Driver,
    DriverProfile, DriverSearch, Eta, EventStreams, FleetEntry, HoldToken, NewDispatch, Notifier, OfferTimers,
    OngoingRide, OpenReview, Owner, Page, Person, Ping, PingOutcome, PortError, PositionSink, ProfileStore,
    PushOutcome, Reservations, ResponseMessage, ResponseQueue, RouteTail, RouteTails, StoredDispatch, TimerMessage,
    TravelledRoute, User, UserProfile,
};

/// Where an injected failure hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailAt {
    /// Before the call has any effect.
    Before,
    /// After its effect: the answer is lost.
    After,
}

/// Which calls of the decorated ports fail. Clones share the plan and the call count, so one plan may cover several
/// ports.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Plan>);

#[derive(Debug, Default)]
struct Plan {
    calls: AtomicU64,
    down: AtomicBool,
    chosen: Mutex<Option<(u64, FailAt)>>,
}

impl Faults {
    /// Makes every call fail, or ends that. A call chosen with [`Faults::fail_call`] fails in both cases.
    pub fn set_down(&self, down: bool) {
        self.0.down.store(down, Ordering::SeqCst);
    }

    /// Makes the `n`th call from now fail, counted from 1.
    pub fn fail_call(&self, n: u64, at: FailAt) {
        let number = self.calls() + n;
        *self.0.chosen.lock() = Some((number, at));
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.0.calls.load(Ordering::SeqCst)
    }

    async fn around<T>(&self, call: impl Future<Output = Result<T, PortError>> + Send) -> Result<T, PortError> {
        let number = self.0.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let chosen = *self.0.chosen.lock();
        let at = chosen.filter(|(chosen, _)| *chosen == number).map(|(_, at)| at);
        if self.0.down.load(Ordering::SeqCst) || at == Some(FailAt::Before) {
            return Err(injected());
        }
        let result = call.await;
        if at == Some(FailAt::After) { Err(injected()) } else { result }
    }
}

fn injected() -> PortError {
    PortError::Unavailable { action: "an injected failure", source: "on purpose".into() }
}

/// A port whose calls fail by plan.
pub struct Failing<P> {
    inner: P,
    faults: Faults,
}

impl<P> Failing<P> {
    pub fn new(inner: P, faults: Faults) -> Self {
        Self { inner, faults }
    }
}

#[async_trait]
impl<P: DispatchStore> DispatchStore for Failing<P> {
    async fn create(&self, new: NewDispatch) -> Result<CreateOutcome, PortError> {
        self.faults.around(self.inner.create(new)).await
    }

    async fn load(&self, id: &DispatchId) -> Result<Option<StoredDispatch>, PortError> {
        self.faults.around(self.inner.load(id)).await
    }

    async fn commit(
        &self,
        before: &StoredDispatch,
        step: &Step,
        route: Option<TravelledRoute>,
    ) -> Result<Commit, PortError> {
        self.faults.around(self.inner.commit(before, step, route)).await
    }

    async fn index(&self, dispatch: &Dispatch) -> Result<(), PortError> {
        self.faults.around(self.inner.index(dispatch)).await
    }

    async fn list(&self, owner: &Owner, limit: u16, after: Option<String>) -> Result<Page<StoredDispatch>, PortError> {
        self.faults.around(self.inner.list(owner, limit, after)).await
    }

    async fn rides_unchanged_since(
        &self,
        before: EpochMs,
        except: &HashSet<DispatchId>,
    ) -> Result<Vec<OngoingRide>, PortError> {
        self.faults.around(self.inner.rides_unchanged_since(before, except)).await
    }

    async fn reviews(&self, limit: u16, after: Option<String>) -> Result<Page<OpenReview>, PortError> {
        self.faults.around(self.inner.reviews(limit, after)).await
    }

    async fn open_since_before(
        &self,
        before: EpochMs,
        limit: u16,
        except: &HashSet<DispatchId>,
    ) -> Result<Vec<DispatchId>, PortError> {
        self.faults.around(self.inner.open_since_before(before, limit, except)).await
    }

    async fn append_route(&self, id: &DispatchId, number: u32, points: &[RoutePoint]) -> Result<(), PortError> {
        self.faults.around(self.inner.append_route(id, number, points)).await
    }

    async fn read_route(&self, id: &DispatchId) -> Result<Vec<RoutePoint>, PortError> {
        self.faults.around(self.inner.read_route(id)).await
    }
}

#[async_trait]
impl<P: PositionSink> PositionSink for Failing<P> {
    async fn put(&self, entries: &[FleetEntry]) -> Result<(), PortError> {
        self.faults.around(self.inner.put(entries)).await
    }

    async fn fill(&self, entries: &[FleetEntry]) -> Result<(), PortError> {
        self.faults.around(self.inner.fill(entries)).await
    }

    async fn last_pings(&self, drivers: &[DriverId]) -> Result<Vec<Option<EpochMs>>, PortError> {
        self.faults.around(self.inner.last_pings(drivers)).await
    }

    async fn last_signs(&self, drivers: &[DriverId]) -> Result<Vec<Option<EpochMs>>, PortError> {
        self.faults.around(self.inner.last_signs(drivers)).await
    }

    async fn record(&self, pings: &[Ping]) -> Result<Vec<PingOutcome>, PortError> {
        self.faults.around(self.inner.record(pings)).await
    }

    async fn forget(&self, drivers: &[DriverId], routes: &[DispatchId]) -> Result<(), PortError> {
        self.faults.around(self.inner.forget(drivers, routes)).await
    }
}

#[async_trait]
impl<P: DriverSearch> DriverSearch for Failing<P> {
    async fn nearby(
        &self,
        center: Coordinate,
        rings_m: &[u32],
        enough: usize,
        now: EpochMs,
    ) -> Result<Option<Vec<DriverSnapshot>>, PortError> {
        self.faults.around(self.inner.nearby(center, rings_m, enough, now)).await
    }
}

#[async_trait]
impl<P: Reservations> Reservations for Failing<P> {
    async fn hold(&self, driver: &DriverId, token: &HoldToken, for_ms: u64) -> Result<bool, PortError> {
        self.faults.around(self.inner.hold(driver, token, for_ms)).await
    }

    async fn release(&self, driver: &DriverId, token: &HoldToken) -> Result<(), PortError> {
        self.faults.around(self.inner.release(driver, token)).await
    }

    async fn offer_ended(
        &self,
        driver: &DriverId,
        outcome: OfferOutcome,
        rest_ms: u64,
        now: EpochMs,
    ) -> Result<u32, PortError> {
        self.faults.around(self.inner.offer_ended(driver, outcome, rest_ms, now)).await
    }

    async fn set_status(
        &self,
        driver: &DriverId,
        status: PersonStatus,
        dispatch: Option<&DispatchId>,
    ) -> Result<(), PortError> {
        self.faults.around(self.inner.set_status(driver, status, dispatch)).await
    }
}

#[async_trait]
impl<P: RouteTails> RouteTails for Failing<P> {
    async fn push(&self, points: &[(DispatchId, RoutePoint)]) -> Result<Vec<(DispatchId, RouteTail)>, PortError> {
        self.faults.around(self.inner.push(points)).await
    }

    async fn trim(&self, id: &DispatchId, chunk: u32, count: usize) -> Result<(), PortError> {
        self.faults.around(self.inner.trim(id, chunk, count)).await
    }

    async fn tail(&self, id: &DispatchId) -> Result<RouteTail, PortError> {
        self.faults.around(self.inner.tail(id)).await
    }
}

#[async_trait]
impl<P: OfferTimers> OfferTimers for Failing<P> {
    async fn start(&self, message: &TimerMessage, delay_ms: u64) -> Result<(), PortError> {
        self.faults.around(self.inner.start(message, delay_ms)).await
    }
}

#[async_trait]
impl<P: ResponseQueue> ResponseQueue for Failing<P> {
    async fn send(&self, message: &ResponseMessage) -> Result<(), PortError> {
        self.faults.around(self.inner.send(message)).await
    }
}

#[async_trait]
impl<P: Notifier> Notifier for Failing<P> {
    async fn publish(&self, notifications: &[Notification]) -> Result<(), PortError> {
        self.faults.around(self.inner.publish(notifications)).await
    }
}

#[async_trait]
impl<P: ProfileStore> ProfileStore for Failing<P> {
    async fn put_user(&self, id: &UserId, profile: UserProfile, now: EpochMs) -> Result<User, PortError> {
        self.faults.around(self.inner.put_user(id, profile, now)).await
    }

    async fn put_driver(&self, id: &DriverId, profile: DriverProfile, now: EpochMs) -> Result<Driver, PortError> {
        self.faults.around(self.inner.put_driver(id, profile, now)).await
    }

    async fn user(&self, id: &UserId) -> Result<Option<User>, PortError> {
        self.faults.around(self.inner.user(id)).await
    }

    async fn drivers(&self, ids: &[DriverId]) -> Result<Vec<Driver>, PortError> {
        self.faults.around(self.inner.drivers(ids)).await
    }

    async fn set_availability(
        &self,
        id: &DriverId,
        status: PersonStatus,
        at: &Location,
        now: EpochMs,
    ) -> Result<AvailabilityChange, PortError> {
        self.faults.around(self.inner.set_availability(id, status, at, now)).await
    }

    async fn release(&self, person: &Person, dispatch: &DispatchId, now: EpochMs) -> Result<bool, PortError> {
        self.faults.around(self.inner.release(person, dispatch, now)).await
    }

    async fn set_device(&self, person: &Person, endpoint_arn: &str) -> Result<bool, PortError> {
        self.faults.around(self.inner.set_device(person, endpoint_arn)).await
    }

    async fn remove_device(&self, person: &Person, endpoint_arn: &str) -> Result<bool, PortError> {
        self.faults.around(self.inner.remove_device(person, endpoint_arn)).await
    }

    async fn device(&self, person: &Person) -> Result<Option<String>, PortError> {
        self.faults.around(self.inner.device(person)).await
    }

    async fn deactivate(&self, known: &Driver, now: EpochMs) -> Result<bool, PortError> {
        self.faults.around(self.inner.deactivate(known, now)).await
    }

    async fn active_drivers(&self, region: Option<&str>, from: ActiveCursor) -> Result<ActivePage, PortError> {
        self.faults.around(self.inner.active_drivers(region, from)).await
    }
}

#[async_trait]
impl<P: Eta> Eta for Failing<P> {
    async fn seconds(&self, from: &[Coordinate], to: Coordinate) -> Result<Vec<Option<u32>>, PortError> {
        self.faults.around(self.inner.seconds(from, to)).await
    }
}

#[async_trait]
impl<P: DevicePush> DevicePush for Failing<P> {
    async fn register(&self, person: &Person, token: &str) -> Result<Option<Device>, PortError> {
        self.faults.around(self.inner.register(person, token)).await
    }

    async fn assign(&self, endpoint_arn: &str, person: &Person, token: &str) -> Result<(), PortError> {
        self.faults.around(self.inner.assign(endpoint_arn, person, token)).await
    }

    async fn unregister(&self, endpoint_arn: &str, person: &Person) -> Result<(), PortError> {
        self.faults.around(self.inner.unregister(endpoint_arn, person)).await
    }

    async fn push(
        &self,
        endpoint_arn: &str,
        notification: &Notification,
        expires_at: EpochMs,
    ) -> Result<PushOutcome, PortError> {
        self.faults.around(self.inner.push(endpoint_arn, notification, expires_at)).await
    }
}

#[async_trait]
impl<P: EventStreams> EventStreams for Failing<P> {
    async fn send(&self, notification: &Notification) -> Result<(), PortError> {
        self.faults.around(self.inner.send(notification)).await
    }

    async fn listen(&self, person: &Person) -> Result<Receiver<Notification>, PortError> {
        self.faults.around(self.inner.listen(person)).await
    }
}
