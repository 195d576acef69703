//! Side effects after a commit. Each may fail without harm; the table shows what compensates for it:
//!
//! | side effect | if it is lost |
//! | --- | --- |
//! | offer timer (SQS) | the sweeper finds the expired offer |
//! | offer push (SNS) | the driver does not answer, and the timer moves the dispatch to the next driver |
//! | answer to the apps (SQS) | the apps read the dispatch; the state is stored |
//! | notification (SNS) | the apps read the dispatch |
//! | driver's status in the cache | one offer that the table refuses, after which the cache is corrected |
//! | release of the hold, cool-down, acceptance count (Redis) | the hold expires; the count misses one answer |
//! | end of the presence of a driver who does not answer | the next unanswered offer, or silence, ends it |

use dispatch_core::dispatch::{Companion, FollowUp, OfferOutcome, Step, TripEvent};
use dispatch_core::geo::Coordinate;
use dispatch_core::ids::DriverId;
use dispatch_core::person::PersonStatus;
use dispatch_core::time::EpochMs;

use super::{Engine, notification_text};
use crate::ports::{HoldToken, PortError, ResponseMessage, StoredDispatch, TimerMessage};

/// Time a reservation outlives its offer, ms: the write of the answer and clock differences.
const HOLD_GRACE_MS: u64 = 5_000;

impl Engine {
    /// Carries out the side effects of a stored change. The search continues separately, triggered by the stream record
    /// of the change.
    pub(super) async fn after_commit(&self, stored: &StoredDispatch, step: &Step) {
        if !step.changed {
            return;
        }
        self.show_in_fleet(stored, step).await;
        for follow_up in &step.follow_ups {
            self.side_effect(stored, follow_up).await;
        }
    }

    /// Logs and counts the failure of a side effect.
    pub(super) fn tolerate(&self, stored: &StoredDispatch, result: Result<(), PortError>) {
        if let Err(error) = result {
            self.metrics.port_error(&error);
            if error.is_unreadable() {
                return;
            }
            let reason = std::error::Error::source(&error).map(ToString::to_string);
            let dispatch = &stored.state.id;
            tracing::warn!(%dispatch, %error, reason, "a side effect failed; stream, timers or sweeper compensate");
        }
    }

    /// Updates the cache from the table: drivers occupied or freed by the transaction and, at each step of a ride, its
    /// driver.
    async fn show_in_fleet(&self, stored: &StoredDispatch, step: &Step) {
        let id = &stored.state.id;
        for companion in &step.companions {
            let result = match companion {
                Companion::OccupyDriver(driver) => self.on_dispatch(driver, stored).await,
                Companion::FreeDriver(driver) => {
                    self.ports.fleet.reservations.set_status(driver, PersonStatus::Active, None).await
                }
                Companion::FreeUser(_)
                | Companion::UserHistory(_)
                | Companion::CompletedRide(..)
                | Companion::OpenReview(_)
                | Companion::CloseReview => Ok(()),
            };
            self.tolerate(stored, result);
        }
        let riding =
            !matches!(step.state.last_trip_event, None | Some(TripEvent::TripCompleted | TripEvent::PaymentCompleted));
        if let Some(driver) = step.state.driver.as_ref().filter(|_| riding && !step.state.status.is_terminal()) {
            tracing::debug!(dispatch = %id, "the ride continues");
            let result = self.on_dispatch(driver, stored).await;
            self.tolerate(stored, result);
        }
    }

    async fn on_dispatch(&self, driver: &DriverId, stored: &StoredDispatch) -> Result<(), PortError> {
        self.ports.fleet.reservations.set_status(driver, PersonStatus::Dispatched, Some(&stored.state.id)).await
    }

    pub(super) async fn side_effect(&self, stored: &StoredDispatch, follow_up: &FollowUp) {
        match follow_up {
            FollowUp::Offer { driver, offered_at, timeout_at, .. } => {
                self.send_offer(stored, driver, *offered_at, *timeout_at).await;
            }
            FollowUp::OfferEnded { driver, offer_seq, outcome } => {
                self.end_offer(stored, driver, *offer_seq, *outcome).await;
            }
            FollowUp::ReleaseHold(driver) => {
                let token = HoldToken::for_offer(&stored.state.id, stored.state.offer_seq);
                self.release(stored, driver, &token).await;
            }
            FollowUp::Notify(notice) => {
                let result = self.ports.notifier.publish(&[notification_text::notice(stored, notice)]).await;
                self.tolerate(stored, result);
            }
            // Carried out by `advance`.
            FollowUp::Search | FollowUp::Hold(_) | FollowUp::WakeAfter { .. } | FollowUp::AcceptAtOnce { .. } => {}
        }
    }

    pub(super) async fn release(&self, stored: &StoredDispatch, driver: &DriverId, token: &HoldToken) {
        let result = self.ports.fleet.reservations.release(driver, token).await;
        self.tolerate(stored, result);
    }

    /// Timer, reservation and push are sent concurrently: each has its own compensation, and the driver waits for none
    /// of the others.
    async fn send_offer(&self, stored: &StoredDispatch, driver: &DriverId, offered_at: EpochMs, timeout_at: EpochMs) {
        let state = &stored.state;
        tracing::info!(dispatch = %state.id, driver = %driver, offer_seq = state.offer_seq, "offered");
        let message = TimerMessage {
            dispatch_id: state.id.to_string(),
            driver_id: Some(driver.to_string()),
            request_time: self.city.timestamp(offered_at),
            timeout_at: self.city.timestamp(timeout_at),
            offer_seq: Some(state.offer_seq),
            ver: None,
        };
        let lasts_ms = timeout_at.since_ms(offered_at);
        let token = HoldToken::for_offer(&state.id, state.offer_seq);
        let notification = [notification_text::offer(&self.city, stored, driver.as_str(), self.ride_length_m(stored))];
        let (started, held, pushed) = futures::future::join3(
            self.ports.timers.start(&message, lasts_ms),
            self.ports.fleet.reservations.hold(driver, &token, lasts_ms + HOLD_GRACE_MS),
            self.ports.notifier.publish(&notification),
        )
        .await;
        self.tolerate(stored, started);
        self.tolerate(stored, held.map(|_| ()));
        self.tolerate(stored, pushed);
    }

    /// Road distance of the ride (m), as estimated for the fare.
    fn ride_length_m(&self, stored: &StoredDispatch) -> u32 {
        let destination = &stored.details.destination;
        let minute = self.city.minute_of_day(stored.state.created_at);
        let fare = &self.city.settings().fare;
        Coordinate::new(destination.lat, destination.lng)
            .map_or(0, |to| fare.estimate(stored.state.pickup, to, minute).distance_m)
    }

    async fn end_offer(&self, stored: &StoredDispatch, driver: &DriverId, offer_seq: u32, outcome: OfferOutcome) {
        let state = &stored.state;
        let now = self.ports.clock.now();
        let policy = self.city.settings().policy.clone();
        let rest_ms = match outcome {
            OfferOutcome::Accepted => 0,
            OfferOutcome::Rejected => policy.cool_down_after_reject_ms,
            OfferOutcome::TimedOut => policy.cool_down_after_timeout_ms,
        };
        let message = ResponseMessage {
            dispatch_id: state.id.to_string(),
            driver_id: driver.to_string(),
            user_id: state.user.to_string(),
            offer_seq,
            response: outcome,
            responded_at: self.city.timestamp_ms(now),
        };
        let token = HoldToken::for_offer(&state.id, offer_seq);
        let in_fleet = async {
            let counted = self.ports.fleet.reservations.offer_ended(driver, outcome, rest_ms, now).await;
            self.release(stored, driver, &token).await;
            let judged = match counted {
                Ok(unanswered) if outcome == OfferOutcome::TimedOut => self.judge_unanswered(driver, unanswered).await,
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            };
            self.tolerate(stored, judged);
        };
        let (sent, ()) = futures::future::join(self.ports.responses.send(&message), in_fleet).await;
        self.tolerate(stored, sent);
    }
}
