//! Users: each requests a ride, waits, may cancel, and is followed until the dispatch has ended.

use std::sync::Arc;
use std::time::Duration;

use dispatch_core::dispatch::{DispatchStatus, EventType};
use dispatch_core::ids::UserId;
use dispatch_core::person::{PaymentType, RideType};
use dispatch_http_types::{
    CancelDispatch, CreateDispatch, Dispatch, Location, Notification, NotificationKind, PaymentMethod, PutUser,
    UserPreferences,
};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::api::{ApiError, Reply, Speaker};
use crate::audit::{History, is_terminal};
use crate::event_stream::{Listener, StreamEvent, WAITING_MAX, listen};
use crate::map::Place;
use crate::run::Run;
use crate::schedule::{Intent, RequestPlan};
use crate::time::parse_timestamp;
use crate::users::RequestState;

/// Interval at which a dispatch is read while no notification arrives.
const LOOK: Duration = Duration::from_secs(3);

/// The first listener number of users, which is higher than those of all drivers.
const LISTENERS_OF_USERS: u32 = 1_000_000;

/// Plays one request to its end.
pub(crate) async fn ask(run: Arc<Run>, plan: RequestPlan) {
    run.note_request(plan.number, RequestState::Sent);
    let (user, registered) = run.users.lock().take();
    let ended = match Rider::new(&run, user, &plan).ride(registered).await {
        Ok(Reply::Done(history)) => RequestState::Ended(history),
        Ok(Reply::Refused(status)) => RequestState::NotStored(format!("HTTP {status}")),
        Err(ApiError::Unavailable { .. }) => RequestState::Refused,
        Err(error) => RequestState::NotStored(error.to_string()),
    };
    // The state of a user whose request was not stored is unknown, so the user is not used again. Nor is one whose
    // profile may be missing.
    if matches!(ended, RequestState::Ended(_)) {
        run.users.lock().give_back(user);
    }
    run.note_request(plan.number, ended);
}

struct Rider<'a> {
    run: &'a Run,
    plan: &'a RequestPlan,
    suffix: String,
    id: String,
    number: u32,
}

impl<'a> Rider<'a> {
    fn new(run: &'a Run, number: u32, plan: &'a RequestPlan) -> Self {
        // Users of an earlier run with this seed may still be on a dispatch, so each run has its own users.
        let suffix = format!("{}-{number:05}", run.label);
        Self { run, plan, id: format!("{}{suffix}", UserId::PREFIX), suffix, number }
    }

    /// Requests a ride and waits for its end. `Refused` if the service refused the profile or the request.
    async fn ride(&self, registered: bool) -> Result<Reply<History>, ApiError> {
        if !registered && let Reply::Refused(status) = self.run.api.put_user(&self.suffix, &self.profile()).await? {
            return Ok(Reply::Refused(status));
        }
        let (sender, events) = mpsc::channel(WAITING_MAX);
        let listener = Listener { who: "user", suffix: self.suffix.clone(), number: LISTENERS_OF_USERS + self.number };
        let listening = async {
            listen(self.run, &listener, &sender).await;
            std::future::pending().await
        };
        tokio::select! {
            ride = self.request_and_wait(events) => ride,
            never = listening => never,
        }
    }

    async fn request_and_wait(&self, events: mpsc::Receiver<StreamEvent>) -> Result<Reply<History>, ApiError> {
        let body = CreateDispatch {
            user_id: self.id.clone(),
            pickup_location: location(&self.plan.pickup),
            destination: location(&self.plan.destination),
        };
        let key = format!("{}-{}", self.run.label, self.plan.number);
        let sent = self.run.clock.now();
        let dispatch = match self.run.api.create(&key, &body).await? {
            Reply::Done(dispatch) => dispatch.dispatch_id,
            Reply::Refused(status) => return Ok(Reply::Refused(status)),
        };
        self.run.book.sent(&dispatch, sent);
        self.run.note_request(self.plan.number, RequestState::Stored(dispatch.clone()));
        Ok(Reply::Done(self.wait(&dispatch, sent, events).await))
    }

    /// Waits until the dispatch has ended. The caller limits the time.
    async fn wait(&self, dispatch: &str, sent: u64, mut events: mpsc::Receiver<StreamEvent>) -> History {
        let mut cancel_at = match self.plan.intent {
            Intent::CancelWaiting { after_ms } => Some(sent + after_ms),
            Intent::Ride | Intent::CancelAccepted { .. } => None,
        };
        let mut accepted = false;
        loop {
            let now_accepted;
            let mut read = None;
            tokio::select! {
                Some(event) = events.recv() => {
                    now_accepted = accepted_at(dispatch, &event);
                    if worth_a_look(dispatch, &event) {
                        read = self.read(dispatch).await;
                    }
                }
                () = self.run.clock.sleep_until(cancel_at.unwrap_or(u64::MAX)), if cancel_at.is_some() => {
                    cancel_at = None;
                    now_accepted = None;
                    read = self.cancel(dispatch).await;
                }
                () = sleep(LOOK) => {
                    now_accepted = None;
                    read = self.read(dispatch).await;
                }
            }
            let seen = read.as_ref().is_some_and(|read| has(read, EventType::DriverAccepted));
            if let Some(at) = now_accepted.or_else(|| seen.then(|| self.run.clock.now())).filter(|_| !accepted) {
                accepted = true;
                self.run.book.matched(dispatch, at);
                if let Intent::CancelAccepted { after_ms } = self.plan.intent {
                    cancel_at = Some(at + after_ms);
                }
            }
            if let Some(read) = read.filter(is_over) {
                return history(&read);
            }
        }
    }

    async fn read(&self, dispatch: &str) -> Option<Dispatch> {
        match self.run.api.dispatch(Speaker::User(&self.id), dispatch).await {
            Ok(Reply::Done(read)) => Some(read),
            Ok(Reply::Refused(_)) | Err(_) => None,
        }
    }

    /// Cancels the dispatch. If it is too late, because the ride has started or ended, nothing changes.
    async fn cancel(&self, dispatch: &str) -> Option<Dispatch> {
        let body = CancelDispatch { user_id: Some(self.id.clone()), driver_id: None };
        match self.run.api.cancel(dispatch, &body).await {
            Ok(Reply::Done(cancelled)) => Some(cancelled),
            Ok(Reply::Refused(_)) | Err(_) => None,
        }
    }

    fn profile(&self) -> PutUser {
        PutUser {
            phone: format!("010{:08}", 50_000_000 + self.number),
            payment_methods: vec![PaymentMethod {
                id: "pm-1".to_owned(),
                method_type: PaymentType::CreditCard,
                is_default: true,
            }],
            preferences: UserPreferences { default_ride_type: RideType::Standard, favorite_locations: Vec::new() },
            current_location: location(&self.plan.pickup),
        }
    }
}

fn location(place: &Place) -> Location {
    Location { lat: place.position.lat(), lng: place.position.lng(), address: place.address.to_owned() }
}

/// When the notification that a driver accepted was received, if this is that notification.
fn accepted_at(dispatch: &str, event: &StreamEvent) -> Option<u64> {
    match event {
        StreamEvent::Notification(notification, at) if is_about(notification, dispatch) => {
            (notification.kind == NotificationKind::DriverAccepted).then_some(*at)
        }
        StreamEvent::Notification(..) | StreamEvent::Connected => None,
    }
}

fn is_about(notification: &Notification, dispatch: &str) -> bool {
    notification.body.dispatch_id.as_deref() == Some(dispatch)
}

/// Whether the dispatch should be read: it may have ended, or notifications may have been missed.
fn worth_a_look(dispatch: &str, event: &StreamEvent) -> bool {
    match event {
        StreamEvent::Connected => true,
        StreamEvent::Notification(notification, _) if is_about(notification, dispatch) => match notification.kind {
            NotificationKind::DispatchFailed | NotificationKind::DispatchCancelled => true,
            NotificationKind::TripProgress => notification.body.status.as_deref() == Some("PAYMENT_COMPLETED"),
            _ => false,
        },
        StreamEvent::Notification(..) => false,
    }
}

fn has(dispatch: &Dispatch, event: EventType) -> bool {
    dispatch.events.iter().any(|entry| entry.event_type.known() == Some(event))
}

/// Whether the dispatch has ended: it is cancelled, or completed and paid.
fn is_over(dispatch: &Dispatch) -> bool {
    is_terminal(dispatch.status)
        && (dispatch.status == DispatchStatus::Cancelled || has(dispatch, EventType::PaymentCompleted))
}

/// The part of a dispatch that the auditor checks.
pub(crate) fn history(dispatch: &Dispatch) -> History {
    History {
        dispatch: dispatch.dispatch_id.clone(),
        driver: dispatch.driver_id.clone(),
        status: dispatch.status,
        offer_seq: dispatch.offer_seq,
        events: dispatch
            .events
            .iter()
            .filter_map(|entry| {
                let at = parse_timestamp(&entry.timestamp).map(|at| at.0.div_euclid(1000));
                Some((entry.event_type.known()?, at))
            })
            .collect(),
    }
}
