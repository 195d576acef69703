//! Converts stored items to the documents that clients receive.

use dispatch_http_types as dto;
use serde::Serialize;

use crate::ports::{CurrentStatus, Driver, StoredDispatch, User};
use crate::store::entity;

/// A dispatch without its keys and the state of its search.
pub fn dispatch(stored: &StoredDispatch) -> dto::Dispatch {
    let item = &stored.item;
    dto::Dispatch {
        dispatch_id: item.pk.clone(),
        user_id: item.user_id.clone(),
        driver_id: item.driver_id.clone(),
        status: item.status,
        created_at: item.created_at.clone(),
        updated_at: item.updated_at.clone(),
        pickup_location: item.pickup_location.clone().into(),
        destination: item.destination.clone().into(),
        estimated_fare: item.estimated_fare,
        actual_fare: item.actual_fare,
        offer_seq: item.offer_seq,
        offer_timeout_at: stored.state.has_live_offer().then(|| item.matching.timeout_at.clone()).flatten(),
        distance_meters: item.distance_m,
        duration_seconds: item.duration_s,
        route: item.route.iter().map(route_point).collect(),
        events: item.events.iter().map(event).collect(),
    }
}

/// A user's profile without its keys and its device.
pub fn user(item: User) -> dto::UserProfile {
    dto::UserProfile {
        user_id: item.id.to_string(),
        phone: item.phone,
        created_at: item.created_at,
        current_status: current_status(item.current_status),
        payment_methods: item.payment_methods.into_iter().map(Into::into).collect(),
        preferences: item.preferences.into(),
    }
}

/// A driver's profile without its keys and its device.
pub fn driver(item: Driver) -> dto::DriverProfile {
    dto::DriverProfile {
        driver_id: item.id.to_string(),
        phone: item.phone,
        created_at: item.created_at,
        vehicle_info: item.vehicle_info.into(),
        current_status: current_status(item.current_status),
        preferences: item.preferences.into(),
        completed_rides: item.completed_rides,
    }
}

/// The JSON name of a variant without fields; empty for any other value.
pub fn wire_name<T: Serialize>(variant: &T) -> String {
    match serde_json::to_value(variant) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}

fn current_status(stored: CurrentStatus) -> dto::CurrentStatus {
    dto::CurrentStatus {
        status: stored.status,
        current_location: stored.location.into(),
        last_location_update: stored.located_at,
        current_dispatch_id: stored.dispatch.map(|id| id.to_string()),
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

fn event(stored: &entity::EventEntry) -> dto::EventEntry {
    dto::EventEntry {
        event_type: stored.event_type,
        timestamp: stored.timestamp.clone(),
        details: stored.details.clone(),
    }
}
