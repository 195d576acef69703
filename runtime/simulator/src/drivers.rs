//! Drivers: each is a task that runs its state machine against the API. One more task sends the pings of all drivers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dispatch_core::dispatch::DispatchStatus;
use dispatch_core::ids::DriverId;
use dispatch_http_types::{
    Answer, AvailabilityStatus, BatchLocation, CancelDispatch, Dispatch, Location, Notification, NotificationKind,
    OfferResponse, PostLocations, PutAvailability, PutDriver, TripReport,
};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::api::{ApiError, Reply, Speaker};
use crate::driver::{Action, Driver, Habits, Input, Offer, RideFacts, State};
use crate::event_stream::{Listener, StreamEvent, WAITING_MAX, listen};
use crate::run::Run;
use crate::schedule::DriverPlan;

/// Rounds of pings in one ping interval, so that the pings of all drivers do not arrive at the same time.
const ROUNDS: u32 = 8;

/// Maximum positions in one batch: the limit of the API.
const BATCH_MAX: usize = 500;

/// Maximum concurrent batches. Further pings of a round are skipped, because the next round sends newer positions.
const BATCHES_MAX: usize = 4;

/// Registers a driver and makes it available. The service refuses the latter for a driver who is still on a ride of an
/// earlier run; the driver then resumes that ride.
pub(crate) async fn sign_on(run: &Run, plan: &DriverPlan) -> Result<(), ApiError> {
    let body = PutDriver {
        phone: plan.phone.clone(),
        vehicle_info: plan.vehicle.clone(),
        preferences: plan.preferences.clone(),
    };
    run.api.put_driver(&plan.suffix, &body).await?;
    put_availability(run, plan, AvailabilityStatus::Active).await
}

/// Makes a driver unavailable.
pub(crate) async fn sign_off(run: &Run, plan: &DriverPlan) -> Result<(), ApiError> {
    put_availability(run, plan, AvailabilityStatus::Inactive).await
}

async fn put_availability(run: &Run, plan: &DriverPlan, status: AvailabilityStatus) -> Result<(), ApiError> {
    let position = run.position(plan.number);
    let location = Location { lat: position.lat(), lng: position.lng(), address: plan.home.address.to_owned() };
    run.api.put_availability(&plan.suffix, &PutAvailability { status, location }).await.map(|_| ())
}

/// Runs a driver until `stop`.
pub(crate) async fn drive(run: Arc<Run>, plan: DriverPlan, stop: CancellationToken) {
    let (sender, mut events) = mpsc::channel(WAITING_MAX);
    let listener = Listener { who: "driver", suffix: plan.suffix.clone(), number: plan.number };
    let now = run.clock.now();
    let mut worker = Worker {
        habits: Habits::from_args(&run.args, plan.number),
        driver: Driver::new(now),
        id: format!("{}{}", DriverId::PREFIX, plan.suffix),
        connected: false,
        plan,
        run: Arc::clone(&run),
    };
    let working = async {
        loop {
            let input = tokio::select! {
                Some(event) = events.recv() => worker.on_event(event),
                () = run.clock.sleep_until(worker.driver.due()) => Some(Input::Time),
            };
            if let Some(input) = input {
                worker.act(input).await;
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = listen(&run, &listener, &sender) => {}
        () = working => {}
    }
}

struct Worker {
    run: Arc<Run>,
    plan: DriverPlan,
    id: String,
    driver: Driver,
    habits: Habits,
    connected: bool,
}

impl Worker {
    fn on_event(&mut self, event: StreamEvent) -> Option<Input> {
        match event {
            StreamEvent::Connected => {
                if !self.connected {
                    self.connected = true;
                    self.run.drivers_connected.fetch_add(1, Ordering::Relaxed);
                }
                Some(Input::Connected)
            }
            StreamEvent::Notification(notification, at) => self.notified(&notification, at),
        }
    }

    fn notified(&self, notification: &Notification, at: u64) -> Option<Input> {
        let dispatch = notification.body.dispatch_id.clone()?;
        match notification.kind {
            NotificationKind::Offer => {
                self.run.book.offered(&dispatch, at);
                if let State::Riding(ride) = self.driver.state()
                    && ride.facts.dispatch != dispatch
                {
                    self.run.book.tally(|tally| tally.offers_while_riding += 1);
                }
                Some(Input::Offered(Offer { dispatch, offer_seq: notification.body.offer_seq? }))
            }
            NotificationKind::DispatchConfirmed => {
                self.run.book.offered(&dispatch, at);
                self.run.book.matched(&dispatch, at);
                Some(Input::Confirmed(dispatch))
            }
            NotificationKind::OfferClosed | NotificationKind::DispatchCancelled => Some(Input::Over(dispatch)),
            // These are sent to users.
            NotificationKind::DriverAccepted
            | NotificationKind::DriverRejected
            | NotificationKind::DispatchFailed
            | NotificationKind::TripProgress
            // It is not about a dispatch. A simulated driver who works sends positions all the time.
            | NotificationKind::DriverInactive => None,
        }
    }

    /// Runs the state machine until it has no further action, and moves the car accordingly.
    async fn act(&mut self, input: Input) {
        let mut next = Some(input);
        while let Some(input) = next.take() {
            let now = self.run.clock.now();
            let action = self.driver.next_action(input, now, &mut self.habits);
            self.steer(now);
            if let Some(action) = action {
                next = Some(self.perform(action).await);
            }
        }
    }

    fn steer(&self, now: u64) {
        let Some(car) = self.run.car(self.plan.number) else { return };
        let mut car = car.lock();
        match self.driver.state() {
            State::Free | State::Deciding { .. } => car.release(),
            State::Riding(ride) => match ride.heading() {
                Some(place) => car.drive(place, now, ride.at),
                None => car.stop(now),
            },
        }
    }

    async fn perform(&self, action: Action) -> Input {
        let done = match action {
            Action::LookUp => self.look_up().await,
            Action::Open(dispatch) => self.open(&dispatch).await,
            Action::Answer(offer, answer) => self.answer(&offer, answer).await,
            Action::Report(dispatch, event_type) => {
                let report = TripReport { driver_id: self.id.clone(), event_type };
                self.run.api.report(&dispatch, &report).await.map(|reply| self.taken(reply))
            }
            Action::Cancel(dispatch) => {
                let body = CancelDispatch { user_id: None, driver_id: Some(self.id.clone()) };
                self.run.api.cancel(&dispatch, &body).await.map(|reply| self.taken(reply))
            }
        };
        done.unwrap_or(Input::Unreachable)
    }

    async fn answer(&self, offer: &Offer, answer: Answer) -> Result<Input, ApiError> {
        let body = OfferResponse { driver_id: self.id.clone(), offer_seq: offer.offer_seq, response: answer };
        let reply = self.run.api.respond(&offer.dispatch, &body).await?;
        if let (Reply::Done(dispatch), Answer::Accept) = (&reply, answer) {
            self.run.book.matched(&offer.dispatch, self.run.clock.now());
            self.note_pickup(dispatch);
        }
        Ok(match (answer, self.taken(reply)) {
            (Answer::Reject, Input::Taken(_)) => Input::Taken(None),
            (_, Input::Refused) => {
                self.run.book.tally(|tally| tally.late_answers += 1);
                Input::Refused
            }
            (_, other) => other,
        })
    }

    fn taken(&self, reply: Reply<Dispatch>) -> Input {
        match reply {
            Reply::Done(dispatch) => Input::Taken(ride_facts(&dispatch, &self.id)),
            Reply::Refused(_) => Input::Refused,
        }
    }

    async fn look_up(&self) -> Result<Input, ApiError> {
        let Reply::Done(profile) = self.run.api.driver(&self.plan.suffix).await? else { return Ok(Input::Found(None)) };
        let Some(dispatch) = profile.current_status.current_dispatch_id else { return Ok(Input::Found(None)) };
        let known = matches!(self.driver.state(), State::Riding(ride) if ride.facts.dispatch == dispatch);
        let found = self.open(&dispatch).await?;
        if !known && matches!(found, Input::Found(Some(_))) {
            self.run.book.tally(|tally| tally.rides_resumed += 1);
        }
        Ok(found)
    }

    async fn open(&self, dispatch: &str) -> Result<Input, ApiError> {
        Ok(match self.run.api.dispatch(Speaker::Driver(&self.id), dispatch).await? {
            Reply::Done(dispatch) => {
                self.note_pickup(&dispatch);
                Input::Found(ride_facts(&dispatch, &self.id))
            }
            Reply::Refused(_) => Input::Found(None),
        })
    }

    /// Records the distance to the pickup when the driver learns of the ride.
    fn note_pickup(&self, dispatch: &Dispatch) {
        if let Some(facts) = ride_facts(dispatch, &self.id).filter(|facts| facts.last.is_none()) {
            let distance = self.run.position(self.plan.number).distance_to(facts.pickup).rounded();
            self.run.book.pickup_distance(&facts.dispatch, distance);
        }
    }
}

/// The ride of a dispatch, if this is its driver; `None` for other drivers and for a dispatch without a ride.
fn ride_facts(dispatch: &Dispatch, driver: &str) -> Option<RideFacts> {
    let rides =
        matches!(dispatch.status, DispatchStatus::Accepted | DispatchStatus::InProgress | DispatchStatus::Completed);
    if !rides || dispatch.driver_id.as_deref() != Some(driver) {
        return None;
    }
    let place = |location: &Location| dispatch_core::geo::Coordinate::new(location.lat, location.lng).ok();
    Some(RideFacts {
        dispatch: dispatch.dispatch_id.clone(),
        last: dispatch.events.iter().rev().find_map(|entry| entry.event_type.known()?.trip_event()),
        pickup: place(&dispatch.pickup_location)?,
        destination: place(&dispatch.destination)?,
    })
}

/// Sends the position of every driver once per ping interval, until `stop`.
pub(crate) async fn ping(run: Arc<Run>, stop: CancellationToken) {
    let mut rounds = interval((run.args.ping_interval / ROUNDS).max(Duration::from_millis(50)));
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let batches = Arc::new(Semaphore::new(BATCHES_MAX));
    let mut round = 0;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = rounds.tick() => {}
        }
        let numbers: Vec<u32> = (round..run.args.drivers).step_by(ROUNDS as usize).collect();
        round = (round + 1) % ROUNDS;
        for some in numbers.chunks(BATCH_MAX) {
            let Ok(permit) = Arc::clone(&batches).try_acquire_owned() else {
                run.book.tally(|tally| tally.ping_rounds_skipped += 1);
                break;
            };
            let body = PostLocations { locations: some.iter().map(|number| location(&run, *number)).collect() };
            let run = Arc::clone(&run);
            // The permits limit the number of these tasks, and each call has a timeout.
            tokio::spawn(async move {
                if let Ok(Reply::Done(taken)) = run.api.post_locations(&body).await {
                    run.book.tally(|tally| tally.positions_dropped += u64::from(taken.dropped));
                }
                drop(permit);
            });
        }
    }
}

fn location(run: &Run, number: u32) -> BatchLocation {
    let (position, phone_at) = run.roam(number);
    let phone_at = jiff::Timestamp::from_millisecond(phone_at.0).unwrap_or_default();
    BatchLocation {
        driver_id: format!("{}{}", DriverId::PREFIX, crate::schedule::driver_suffix(number)),
        lat: position.lat(),
        lng: position.lng(),
        accuracy_meters: None,
        timestamp: Some(phone_at.to_string()),
    }
}
