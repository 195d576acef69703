//! Notification texts: the Korean texts of the specification, and texts of our own where it has none.

use dispatch_core::dispatch::{Notice, OfferOutcome, TripEvent};
use dispatch_core::ids::DispatchId;
use dispatch_http_types::{Notification, NotificationBody, NotificationKind};

use crate::city::City;
use crate::ports::{ResponseMessage, StoredDispatch};

/// The text of spec §7.4.
const NEW_OFFER: &str = "새로운 배차 요청이 있습니다";

/// A distance in the format of the specification, `2.5km`.
pub(super) fn kilometres(distance_m: u32) -> String {
    format!("{:.1}km", f64::from(distance_m) / 1000.0)
}

/// The SNS message for an offer (spec §7.4). It contains addresses, but no coordinates and no phone number.
pub(super) fn offer(city: &City, stored: &StoredDispatch, driver: &str, distance_m: u32) -> Notification {
    let state = &stored.state;
    Notification {
        id: format!("{}:{}:OFFER", state.id, state.offer_seq),
        recipient: driver.to_owned(),
        kind: NotificationKind::Offer,
        body: NotificationBody {
            pickup_address: Some(stored.item.pickup_location.address.clone()),
            destination_address: Some(stored.item.destination.address.clone()),
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
        Notice::TripProgress(user, event) => {
            let (text, status) = progress(*event);
            (user.as_str(), NotificationKind::TripProgress, text, status)
        }
    };
    let state = &stored.state;
    Notification {
        id: format!("{}:v{}:{recipient}", state.id, state.ver),
        recipient: recipient.to_owned(),
        kind,
        body: NotificationBody { status: Some(status.to_owned()), ..plain(&state.id, text) },
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

fn plain(id: &DispatchId, message: &str) -> NotificationBody {
    NotificationBody {
        message: message.to_owned(),
        dispatch_id: id.to_string(),
        pickup_address: None,
        destination_address: None,
        estimated_fare: None,
        estimated_distance: None,
        offer_seq: None,
        timeout_at: None,
        status: None,
    }
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
