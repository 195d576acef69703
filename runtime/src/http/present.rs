//! From stored items to the documents clients get.

use dispatch_core::dispatch::TripEvent;
use serde::Serialize;

use super::dto;
use crate::port::StoredDispatch;
use crate::store::entity;

/// A dispatch without its keys and its search.
pub fn dispatch(stored: &StoredDispatch) -> dto::Dispatch {
    let item = &stored.item;
    dto::Dispatch {
        dispatch_id: item.pk.clone(),
        user_id: item.user_id.clone(),
        driver_id: item.driver_id.clone(),
        status: item.status,
        created_at: item.created_at.clone(),
        updated_at: item.updated_at.clone(),
        pickup_location: location(&item.pickup_location),
        destination: location(&item.destination),
        estimated_fare: item.estimated_fare,
        actual_fare: item.actual_fare,
        offer_seq: item.offer_seq,
        offer_timeout_at: stored.state.has_live_offer().then(|| item.matching.timeout_at.clone()).flatten(),
        distance_meters: item.distance_m,
        duration_seconds: item.duration_s,
        route: item.route.iter().map(route_point).collect(),
        events: item.events.clone(),
    }
}

/// A user's profile without its keys and its device.
pub fn user(item: entity::UserItem) -> dto::UserProfile {
    dto::UserProfile {
        user_id: item.pk,
        phone: item.phone,
        created_at: item.created_at,
        current_status: current_status(item.current_status),
        payment_methods: item.payment_methods.into_iter().map(Into::into).collect(),
        preferences: item.preferences.into(),
    }
}

/// A driver's profile without its keys and its device.
pub fn driver(item: entity::DriverItem) -> dto::DriverProfile {
    dto::DriverProfile {
        driver_id: item.pk,
        phone: item.phone,
        created_at: item.created_at,
        vehicle_info: item.vehicle_info.into(),
        current_status: current_status(item.current_status),
        preferences: dto::DriverPreferences {
            default_ride_type: item.preferences.default_ride_type,
            preferred_regions: item.preferences.preferred_regions,
            max_distance: item.preferences.max_distance,
            auto_accept: item.preferences.auto_accept,
            minimum_fare: item.preferences.minimum_fare,
        },
        completed_rides: item.completed_rides,
    }
}

/// A trip event's name on the wire.
pub fn trip_event(event: TripEvent) -> dto::TripEventType {
    match event {
        TripEvent::PickupStarted => dto::TripEventType::PickupStarted,
        TripEvent::DriverArrived => dto::TripEventType::DriverArrived,
        TripEvent::PassengerPickedUp => dto::TripEventType::PassengerPickedUp,
        TripEvent::TripStarted => dto::TripEventType::TripStarted,
        TripEvent::TripCompleted => dto::TripEventType::TripCompleted,
        TripEvent::PaymentCompleted => dto::TripEventType::PaymentCompleted,
    }
}

/// The name of a variant without fields, as it is written in JSON; empty for anything else.
pub fn wire_name<T: Serialize>(variant: &T) -> String {
    match serde_json::to_value(variant) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}

fn location(stored: &entity::Location) -> dto::Location {
    dto::Location { lat: stored.lat, lng: stored.lng, address: stored.address.clone() }
}

fn current_status(stored: entity::CurrentStatus) -> dto::CurrentStatus {
    dto::CurrentStatus {
        status: stored.status,
        current_location: location(&stored.current_location),
        last_location_update: stored.last_location_update,
        current_dispatch_id: stored.current_dispatch_id,
    }
}

fn route_point(stored: &entity::RouteEntry) -> dto::RoutePoint {
    dto::RoutePoint {
        lat: stored.lat,
        lng: stored.lng,
        timestamp: stored.timestamp.clone(),
        distance_from_previous: stored.distance_from_previous,
    }
}
