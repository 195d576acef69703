//! Converts stored items to the documents that clients receive.

use dispatch_http_types as dto;
use serde::Serialize;

use crate::ports::{CurrentStatus, Driver, StoredDispatch, User};
use dispatch_core::dispatch::EventEntry;
use dispatch_core::route::RouteEntry;

/// A dispatch without its keys and the state of its search.
pub(crate) fn dispatch(stored: &StoredDispatch) -> dto::Dispatch {
    let StoredDispatch { state, details } = stored;
    dto::Dispatch {
        dispatch_id: state.id.to_string(),
        user_id: state.user.to_string(),
        driver_id: state.driver.as_ref().map(ToString::to_string),
        status: state.status,
        created_at: details.created_at.clone(),
        updated_at: details.updated_at.clone(),
        pickup_location: details.pickup.clone().into(),
        destination: details.destination.clone().into(),
        estimated_fare: state.estimated_fare,
        actual_fare: details.actual_fare,
        metered_fare: details.metered_fare,
        review: state.review,
        far_from_destination: details.is_far,
        offer_seq: state.offer_seq,
        offer_timeout_at: state.has_live_offer().then(|| details.offer_timeout_at.clone()).flatten(),
        distance_meters: details.distance_m,
        duration_seconds: details.duration_s,
        route: details.route.iter().map(route_point).collect(),
        events: details.events.iter().map(event).collect(),
    }
}

/// A user's profile without its keys and its device.
pub(crate) fn user(item: User) -> dto::UserProfile {
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
pub(crate) fn driver(item: Driver) -> dto::DriverProfile {
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
pub(crate) fn wire_name<T: Serialize>(variant: &T) -> String {
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

fn route_point(stored: &RouteEntry) -> dto::RoutePoint {
    dto::RoutePoint {
        lat: stored.lat,
        lng: stored.lng,
        timestamp: stored.timestamp.clone(),
        distance_from_previous: stored.distance_from_previous,
    }
}

fn event(stored: &EventEntry) -> dto::EventEntry {
    dto::EventEntry {
        event_type: stored.event_type.clone(),
        timestamp: stored.timestamp.clone(),
        details: stored.details.clone(),
    }
}
