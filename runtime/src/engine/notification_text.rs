//! Notification texts: the Korean texts of the specification, and texts of our own where it has none.

use dispatch_core::dispatch::{DispatchStatus, Notice, OfferOutcome, Recipient, TripEvent};
use dispatch_core::geo::Location;
use dispatch_core::ids::{DispatchId, DriverId};
use dispatch_core::person::PersonStatus;
use dispatch_core::privacy::{OfferAddresses, district_of_address};
use dispatch_core::time::EpochMs;
use dispatch_http_types::{Notification, NotificationBody, NotificationKind};

use crate::city::City;
use crate::ports::{ResponseMessage, StoredDispatch};

/// The text of spec §7.4.
const NEW_OFFER: &str = "새로운 배차 요청이 있습니다";

/// A distance in the format of the specification, `2.5km`.
pub(super) fn kilometres(distance_m: u32) -> String {
    format!("{:.1}km", f64::from(distance_m) / 1000.0)
}

/// The SNS message for an offer (spec §7.4). It contains addresses or their districts, as the city has it, but no
/// coordinates and no phone number.
pub(super) fn offer(city: &City, stored: &StoredDispatch, driver: &str, distance_m: u32) -> Notification {
    let state = &stored.state;
    let shown = |place: &Location| match city.settings().privacy.offer_addresses {
        OfferAddresses::Full => place.address.clone(),
        OfferAddresses::District => district_of_address(&place.address),
    };
    Notification {
        id: format!("{}:{}:OFFER", state.id, state.offer_seq),
        recipient: driver.to_owned(),
        kind: NotificationKind::Offer,
        body: NotificationBody {
            pickup_address: Some(shown(&stored.details.pickup)),
            destination_address: Some(shown(&stored.details.destination)),
            estimated_fare: Some(state.estimated_fare),
            estimated_distance: Some(kilometres(distance_m)),
            offer_seq: Some(state.offer_seq),
            timeout_at: state.matching.timeout_at.map(|at| city.timestamp_ms(at)),
            status: Some("REQUESTED".to_owned()),
            ..plain(&state.id, NEW_OFFER)
        },
    }
}

/// The notification for a notice of core.
pub(super) fn notice(stored: &StoredDispatch, notice: &Notice) -> Notification {
    let (recipient, kind, text, status) = match notice {
        Notice::DispatchFailed(user) => {
            (user.as_str(), NotificationKind::DispatchFailed, "배차 실패: 이용 가능한 드라이버가 없습니다", "CANCELLED")
        }
        Notice::DriverCancelled(user) => {
            (user.as_str(), NotificationKind::DispatchCancelled, "드라이버가 배차를 취소했습니다", "CANCELLED")
        }
        Notice::UserCancelled(driver) => {
            (driver.as_str(), NotificationKind::DispatchCancelled, "사용자가 배차를 취소했습니다", "CANCELLED")
        }
        Notice::EndedByOperations(recipient) => {
            let (kind, text, status) = match stored.state.status {
                DispatchStatus::Completed => {
                    (NotificationKind::TripProgress, "운영자가 운행을 종료했습니다", "TRIP_COMPLETED")
                }
                _ => (NotificationKind::DispatchCancelled, "운영자가 배차를 취소했습니다", "CANCELLED"),
            };
            (id_of(recipient), kind, text, status)
        }
        Notice::EndedAsSilent(recipient) => {
            let (kind, text, status) = match stored.state.status {
                DispatchStatus::Completed => {
                    (NotificationKind::TripProgress, "운행 신호가 없어 운행이 종료되었습니다", "TRIP_COMPLETED")
                }
                _ => (NotificationKind::DispatchCancelled, "운행 신호가 없어 배차가 취소되었습니다", "CANCELLED"),
            };
            (id_of(recipient), kind, text, status)
        }
        Notice::TripProgress(user, event) => {
            let (text, status) = progress(*event);
            (user.as_str(), NotificationKind::TripProgress, text, status)
        }
    };
    let state = &stored.state;
    let body = NotificationBody { status: Some(status.to_owned()), ..plain(&state.id, text) };
    let is_end = matches!(notice, Notice::TripProgress(_, TripEvent::TripCompleted));
    Notification {
        id: format!("{}:v{}:{recipient}", state.id, state.ver),
        recipient: recipient.to_owned(),
        kind,
        body: if is_end { with_fares(stored, body) } else { body },
    }
}

fn id_of(recipient: &Recipient) -> &str {
    match recipient {
        Recipient::User(user) => user.as_str(),
        Recipient::Driver(driver) => driver.as_str(),
    }
}

/// The end of a trip with its fares. A user who was driven elsewhere is notified of the difference.
fn with_fares(stored: &StoredDispatch, body: NotificationBody) -> NotificationBody {
    let StoredDispatch { state, details } = stored;
    let message = match details.metered_fare.filter(|_| details.is_far) {
        Some(metered) => {
            let estimated = state.estimated_fare;
            format!("목적지에서 먼 곳에서 운행이 완료되었습니다 (예상 요금 {estimated}, 미터 요금 {metered})")
        }
        None => body.message,
    };
    NotificationBody {
        message,
        estimated_fare: Some(state.estimated_fare),
        metered_fare: details.metered_fare,
        actual_fare: Some(details.actual_fare),
        ..body
    }
}

fn progress(event: TripEvent) -> (&'static str, &'static str) {
    match event {
        TripEvent::PickupStarted => ("드라이버가 출발지로 이동 중입니다", "PICKUP_STARTED"),
        TripEvent::DriverArrived => ("드라이버가 출발지에 도착했습니다", "DRIVER_ARRIVED"),
        TripEvent::PassengerPickedUp => ("탑승이 확인되었습니다", "PASSENGER_PICKED_UP"),
        TripEvent::TripStarted => ("운행이 시작되었습니다", "TRIP_STARTED"),
        TripEvent::TripCompleted => ("운행이 완료되었습니다", "TRIP_COMPLETED"),
        TripEvent::PaymentCompleted => ("결제가 완료되었습니다", "PAYMENT_COMPLETED"),
    }
}

/// The notifications of an answer to the user and to the driver (spec §4). `None` if the message contains no valid
/// dispatch id.
pub fn response(message: &ResponseMessage) -> Option<[Notification; 2]> {
    let id = DispatchId::parse(message.dispatch_id.clone()).ok()?;
    let (user_kind, user_text, driver_kind, driver_text, status) = match message.response {
        OfferOutcome::Accepted => (
            NotificationKind::DriverAccepted,
            "드라이버가 배차 요청을 수락했습니다",
            NotificationKind::DispatchConfirmed,
            "배차가 확정되었습니다",
            "ACCEPTED",
        ),
        OfferOutcome::Rejected => (
            NotificationKind::DriverRejected,
            "드라이버 거절 - 다음 드라이버 검색 중",
            NotificationKind::OfferClosed,
            "배차 요청을 거절했습니다",
            "REQUESTED",
        ),
        OfferOutcome::TimedOut => (
            NotificationKind::DriverRejected,
            "응답 시간 초과 - 다음 드라이버 검색 중",
            NotificationKind::OfferClosed,
            "응답 시간이 지나 배차 요청이 종료되었습니다",
            "REQUESTED",
        ),
    };
    let notification = |recipient: &str, kind, text| Notification {
        id: format!("{id}:{}:answer:{recipient}", message.offer_seq),
        recipient: recipient.to_owned(),
        kind,
        body: NotificationBody {
            offer_seq: Some(message.offer_seq),
            status: Some(status.to_owned()),
            ..plain(&id, text)
        },
    };
    Some([
        notification(&message.user_id, user_kind, user_text),
        notification(&message.driver_id, driver_kind, driver_text),
    ])
}

/// Why a driver becomes inactive without having asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absence {
    /// No sign of life for a long time.
    Silent,
    /// Several offers in a row without an answer.
    Unanswered,
}

impl Absence {
    /// The label of the metric.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Unanswered => "unanswered",
        }
    }
}

/// The notification of a driver who became inactive without having asked for it, once for each time.
pub(super) fn inactive(driver: &DriverId, reason: Absence, now: EpochMs) -> Notification {
    let message = match reason {
        Absence::Silent => "위치 신호가 없어 운행 대기가 종료되었습니다",
        Absence::Unanswered => "응답하지 않은 배차 요청이 많아 운행 대기가 종료되었습니다",
    };
    Notification {
        id: format!("{driver}:inactive:{}", now.0),
        recipient: driver.to_string(),
        kind: NotificationKind::DriverInactive,
        body: NotificationBody {
            message: message.to_owned(),
            status: Some(PersonStatus::Inactive.as_str().to_owned()),
            ..NotificationBody::default()
        },
    }
}

fn plain(id: &DispatchId, message: &str) -> NotificationBody {
    NotificationBody { message: message.to_owned(), dispatch_id: Some(id.to_string()), ..NotificationBody::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_have_the_format_of_the_specification() {
        assert_eq!(kilometres(2500), "2.5km");
        assert_eq!(kilometres(40), "0.0km");
        assert_eq!(kilometres(12_349), "12.3km");
    }

    #[test]
    fn an_answer_notifies_both_sides_once() {
        let message = ResponseMessage {
            dispatch_id: "dispatch#1".to_owned(),
            driver_id: "driver#2".to_owned(),
            user_id: "user#3".to_owned(),
            offer_seq: 4,
            response: OfferOutcome::Accepted,
            responded_at: "2025-05-25T15:31:00+09:00".to_owned(),
        };
        let [user, driver] = response(&message).unwrap();
        assert_eq!((user.recipient.as_str(), user.kind), ("user#3", NotificationKind::DriverAccepted));
        assert_eq!((driver.recipient.as_str(), driver.kind), ("driver#2", NotificationKind::DispatchConfirmed));
        assert_ne!(user.id, driver.id);
        assert!(response(&ResponseMessage { dispatch_id: "x".to_owned(), ..message }).is_none());
    }
}
