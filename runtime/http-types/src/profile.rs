//! Profiles, devices and availability of users and drivers.

use dispatch_core::person::{self, PaymentType, PersonStatus, RideType};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::location::Location;
use crate::location::StoredLocation;

/// A user's profile as the user sets it.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({
    "phone": "01012341234",
    "paymentMethods": [{"id": "pm-1", "type": "CREDIT_CARD", "isDefault": true}],
    "preferences": {"defaultRideType": "STANDARD", "favoriteLocations": [
        {"id": "fav-1", "name": "집", "address": "서울시 종로구 종로", "lat": 37.5730, "lng": 126.9768}]},
    "currentLocation": {"lat": 37.5662, "lng": 126.9784, "address": "서울시 중구 명동"}
}))]
pub struct PutUser {
    /// The phone number: a Korean mobile number (`010…`) or an international number in E.164 format (`+…`).
    #[schema(pattern = r"^(01[016789][0-9]{7,8}|\+[1-9][0-9]{6,14})$")]
    pub phone: String,
    /// The user's payment methods. At most one of them is the default.
    #[schema(max_items = 20)]
    pub payment_methods: Vec<PaymentMethod>,
    /// The user's preferences.
    pub preferences: UserPreferences,
    /// Where the user is now.
    pub current_location: Location,
}

/// A user's profile and current status.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "userId": "user#00001", "phone": "01012341234", "createdAt": "2025-05-25T15:00:00+09:00",
    "currentStatus": {"status": "ACTIVE", "currentLocation": {"lat": 37.5662, "lng": 126.9784, "address": "서울시 중구 명동"},
        "lastLocationUpdate": "2025-05-25T15:29:00+09:00", "currentDispatchId": null},
    "paymentMethods": [{"id": "pm-1", "type": "CREDIT_CARD", "isDefault": true}],
    "preferences": {"defaultRideType": "STANDARD", "favoriteLocations": [
        {"id": "fav-1", "name": "집", "address": "서울시 종로구 종로", "lat": 37.5730, "lng": 126.9768}]}
}))]
pub struct UserProfile {
    /// The user's id, prefix included: `user#…`.
    pub user_id: String,
    /// The phone number.
    pub phone: String,
    /// When the profile was created, in the city's time zone.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// The user's status and location.
    pub current_status: CurrentStatus,
    /// The user's payment methods.
    pub payment_methods: Vec<PaymentMethod>,
    /// The user's preferences.
    pub preferences: UserPreferences,
}

/// A driver's profile as the driver sets it.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({
    "phone": "01012341234",
    "vehicleInfo": {"manufacturer": "현대", "licensePlate": "서울12가3456"},
    "preferences": {"defaultRideType": "STANDARD", "preferredRegions": ["중구", "종로구"], "maxDistance": 20,
        "autoAccept": true, "minimumFare": 8000}
}))]
pub struct PutDriver {
    /// The phone number: a Korean mobile number (`010…`) or an international number in E.164 format (`+…`).
    #[schema(pattern = r"^(01[016789][0-9]{7,8}|\+[1-9][0-9]{6,14})$")]
    pub phone: String,
    /// The driver's vehicle.
    pub vehicle_info: VehicleInfo,
    /// The driver's preferences.
    pub preferences: DriverPreferences,
}

/// A driver's profile and current status.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "driverId": "driver#00001", "phone": "01012341234", "createdAt": "2025-05-25T15:00:00+09:00",
    "vehicleInfo": {"manufacturer": "현대", "licensePlate": "서울12가3456"},
    "currentStatus": {"status": "ACTIVE", "currentLocation": {"lat": 37.5662, "lng": 126.9784, "address": "서울시 중구 명동"},
        "lastLocationUpdate": "2025-05-25T15:29:00+09:00", "currentDispatchId": null},
    "preferences": {"defaultRideType": "STANDARD", "preferredRegions": ["중구", "종로구"], "maxDistance": 20,
        "autoAccept": true, "minimumFare": 8000},
    "completedRides": []
}))]
pub struct DriverProfile {
    /// The driver's id, prefix included: `driver#…`.
    pub driver_id: String,
    /// The phone number.
    pub phone: String,
    /// When the profile was created, in the city's time zone.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// The driver's vehicle.
    pub vehicle_info: VehicleInfo,
    /// The driver's status and location.
    pub current_status: CurrentStatus,
    /// The driver's preferences.
    pub preferences: DriverPreferences,
    /// The dispatch ids of the last 20 completed rides, oldest first. `GET /v1/drivers/{driverId}/dispatches` lists all
    /// of them.
    pub completed_rides: Vec<String>,
}

/// Which dispatches a driver wants to be offered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"defaultRideType": "STANDARD", "preferredRegions": ["중구", "종로구"], "maxDistance": 20,
    "autoAccept": true, "minimumFare": 8000}))]
pub struct DriverPreferences {
    /// The driver's usual ride type. It does not restrict the offers that the driver receives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_ride_type: Option<RideType>,
    /// The districts where the driver prefers to work. They do not restrict the offers that the driver receives.
    #[schema(max_items = 32)]
    pub preferred_regions: Vec<String>,
    /// The longest straight-line distance to a pickup, in kilometres. The driver is not offered dispatches that are
    /// farther away.
    #[schema(exclusive_minimum = 0, maximum = 1000)]
    pub max_distance: f64,
    /// Whether every offer is accepted on the driver's behalf immediately, if the city allows it. At a similar
    /// distance, drivers with automatic acceptance are offered a dispatch first.
    pub auto_accept: bool,
    /// The lowest estimated fare, in whole units of the city's currency. The driver is not offered dispatches below it.
    #[schema(maximum = 10_000_000)]
    pub minimum_fare: u32,
}

/// The status and location of a user or driver.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({"status": "ACTIVE", "currentLocation": {"lat": 37.5662, "lng": 126.9784, "address": "서울시 중구 명동"},
        "lastLocationUpdate": "2025-05-25T15:29:00+09:00", "currentDispatchId": null}))]
pub struct CurrentStatus {
    /// `ACTIVE`: free. `DISPATCHED`: on a dispatch. `INACTIVE`: not available; a driver receives no offers.
    pub status: PersonStatus,
    /// The location stored with the profile. A driver's position reports do not change it.
    #[schema(value_type = StoredLocation)]
    pub current_location: Location,
    /// When that location was stored, in the city's time zone.
    #[schema(format = DateTime)]
    pub last_location_update: String,
    /// The current dispatch, or null if there is none.
    pub current_dispatch_id: Option<String>,
}

/// A device that receives push notifications.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"token": "bk3RNwTe3H0:CI2k_HHwgIpoDKCIZvvDMExUdFQ3P1"}))]
pub struct PutDevice {
    /// The FCM registration token of the app on the device. It is never logged or returned.
    #[schema(min_length = 1, max_length = 4096, pattern = "^[!-~]+$")]
    pub token: String,
}

/// The result of registering a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceRegistered {
    /// Whether the device receives push notifications. False if the city sends none; the app should then listen to
    /// `GET /v1/events`.
    pub push: bool,
}

/// The availability of a driver: `ACTIVE` to receive offers, `INACTIVE` to receive none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum AvailabilityStatus {
    /// The driver receives offers.
    Active,
    /// The driver receives no offers.
    Inactive,
}

/// A change of a driver's availability.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"status": "ACTIVE", "location": {"lat": 37.5662, "lng": 126.9784, "address": "서울시 중구 명동"}}))]
pub struct PutAvailability {
    /// Whether the driver wants to receive offers.
    pub status: AvailabilityStatus,
    /// Where the driver is now.
    pub location: Location,
}

/// A payment method of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PaymentMethod {
    /// The client's id of the payment method.
    #[schema(min_length = 1, max_length = 100)]
    pub id: String,
    /// The type of payment.
    #[serde(rename = "type")]
    pub method_type: PaymentType,
    /// Whether this is the user's default payment method.
    pub is_default: bool,
}

/// A user's preferences.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UserPreferences {
    /// The ride type that the app preselects.
    pub default_ride_type: RideType,
    /// Places that the user has saved.
    #[schema(max_items = 50)]
    pub favorite_locations: Vec<FavoriteLocation>,
}

/// A place that a user has saved.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FavoriteLocation {
    /// The client's id of the place.
    #[schema(min_length = 1, max_length = 100)]
    pub id: String,
    /// The user's name for the place.
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
    /// The address as people read it.
    #[schema(min_length = 1, max_length = 200)]
    pub address: String,
    /// Latitude in degrees.
    #[schema(minimum = -90, maximum = 90)]
    pub lat: f64,
    /// Longitude in degrees.
    #[schema(minimum = -180, maximum = 180)]
    pub lng: f64,
}

/// A driver's vehicle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VehicleInfo {
    /// The manufacturer of the vehicle.
    #[schema(min_length = 1, max_length = 100)]
    pub manufacturer: String,
    /// The number on the licence plate.
    #[schema(min_length = 1, max_length = 100)]
    pub license_plate: String,
}

impl From<person::PaymentMethod> for PaymentMethod {
    fn from(person::PaymentMethod { id, method_type, is_default }: person::PaymentMethod) -> Self {
        Self { id, method_type, is_default }
    }
}

impl From<PaymentMethod> for person::PaymentMethod {
    fn from(PaymentMethod { id, method_type, is_default }: PaymentMethod) -> Self {
        Self { id, method_type, is_default }
    }
}

impl From<person::UserPreferences> for UserPreferences {
    fn from(stored: person::UserPreferences) -> Self {
        let favorite_locations = stored.favorite_locations.into_iter().map(Into::into).collect();
        Self { default_ride_type: stored.default_ride_type, favorite_locations }
    }
}

impl From<UserPreferences> for person::UserPreferences {
    fn from(given: UserPreferences) -> Self {
        let favorite_locations = given.favorite_locations.into_iter().map(Into::into).collect();
        Self { default_ride_type: given.default_ride_type, favorite_locations }
    }
}

impl From<person::FavoriteLocation> for FavoriteLocation {
    fn from(person::FavoriteLocation { id, name, address, lat, lng }: person::FavoriteLocation) -> Self {
        Self { id, name, address, lat, lng }
    }
}

impl From<FavoriteLocation> for person::FavoriteLocation {
    fn from(FavoriteLocation { id, name, address, lat, lng }: FavoriteLocation) -> Self {
        Self { id, name, address, lat, lng }
    }
}

impl From<person::VehicleInfo> for VehicleInfo {
    fn from(person::VehicleInfo { manufacturer, license_plate }: person::VehicleInfo) -> Self {
        Self { manufacturer, license_plate }
    }
}

impl From<VehicleInfo> for person::VehicleInfo {
    fn from(VehicleInfo { manufacturer, license_plate }: VehicleInfo) -> Self {
        Self { manufacturer, license_plate }
    }
}

impl From<person::DriverPreferences> for DriverPreferences {
    fn from(stored: person::DriverPreferences) -> Self {
        Self {
            default_ride_type: stored.default_ride_type,
            preferred_regions: stored.preferred_regions,
            max_distance: stored.max_distance,
            auto_accept: stored.auto_accept,
            minimum_fare: stored.minimum_fare,
        }
    }
}

impl From<DriverPreferences> for person::DriverPreferences {
    fn from(given: DriverPreferences) -> Self {
        Self {
            default_ride_type: given.default_ride_type,
            preferred_regions: given.preferred_regions,
            max_distance: given.max_distance,
            auto_accept: given.auto_accept,
            minimum_fare: given.minimum_fare,
        }
    }
}
