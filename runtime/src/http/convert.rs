//! Converts stored items to the documents that clients receive.

use dispatch_http_types as dto;
use serde::Serialize;

use crate::ports::StoredDispatch;
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
        pickup_location: location(&item.pickup_location),
        destination: location(&item.destination),
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

/// The JSON name of a variant without fields; empty for any other value.
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

fn event(stored: &entity::EventEntry) -> dto::EventEntry {
    dto::EventEntry {
        event_type: stored.event_type,
        timestamp: stored.timestamp.clone(),
        details: stored.details.clone(),
    }
}

impl From<entity::PaymentMethod> for dto::PaymentMethod {
    fn from(entity::PaymentMethod { id, method_type, is_default }: entity::PaymentMethod) -> Self {
        Self { id, method_type, is_default }
    }
}

impl From<dto::PaymentMethod> for entity::PaymentMethod {
    fn from(dto::PaymentMethod { id, method_type, is_default }: dto::PaymentMethod) -> Self {
        Self { id, method_type, is_default }
    }
}

impl From<entity::UserPreferences> for dto::UserPreferences {
    fn from(stored: entity::UserPreferences) -> Self {
        let favorite_locations = stored.favorite_locations.into_iter().map(Into::into).collect();
        Self { default_ride_type: stored.default_ride_type, favorite_locations }
    }
}

impl From<dto::UserPreferences> for entity::UserPreferences {
    fn from(given: dto::UserPreferences) -> Self {
        let favorite_locations = given.favorite_locations.into_iter().map(Into::into).collect();
        Self { default_ride_type: given.default_ride_type, favorite_locations }
    }
}

impl From<entity::FavoriteLocation> for dto::FavoriteLocation {
    fn from(entity::FavoriteLocation { id, name, address, lat, lng }: entity::FavoriteLocation) -> Self {
        Self { id, name, address, lat, lng }
    }
}

impl From<dto::FavoriteLocation> for entity::FavoriteLocation {
    fn from(dto::FavoriteLocation { id, name, address, lat, lng }: dto::FavoriteLocation) -> Self {
        Self { id, name, address, lat, lng }
    }
}

impl From<entity::VehicleInfo> for dto::VehicleInfo {
    fn from(entity::VehicleInfo { manufacturer, license_plate }: entity::VehicleInfo) -> Self {
        Self { manufacturer, license_plate }
    }
}

impl From<dto::VehicleInfo> for entity::VehicleInfo {
    fn from(dto::VehicleInfo { manufacturer, license_plate }: dto::VehicleInfo) -> Self {
        Self { manufacturer, license_plate }
    }
}
