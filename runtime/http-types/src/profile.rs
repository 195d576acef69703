//! Users and drivers: profiles, devices, availability.

use dispatch_core::person::{self, PaymentType, PersonStatus, RideType};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::location::Location;

/// What a user says about itself.
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
    /// Korean mobile number (`010…`) or E.164.
    #[schema(pattern = r"^(01[016789][0-9]{7,8}|\+[1-9][0-9]{6,14})$")]
    pub phone: String,
    /// Ways to pay; at most one is the default.
    #[schema(max_items = 20)]
    pub payment_methods: Vec<PaymentMethod>,
    /// What the user likes.
    pub preferences: UserPreferences,
    /// Where the user is.
    pub current_location: Location,
}

/// A user's own profile.
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
    /// Who.
    pub user_id: String,
    /// Phone number.
    pub phone: String,
    /// When the profile was made.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// Where and how the user is.
    pub current_status: CurrentStatus,
    /// Ways to pay.
    pub payment_methods: Vec<PaymentMethod>,
    /// What the user likes.
    pub preferences: UserPreferences,
}

/// What a driver says about itself.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({
    "phone": "01012341234",
    "vehicleInfo": {"manufacturer": "현대", "licensePlate": "서울12가3456"},
    "preferences": {"defaultRideType": "STANDARD", "preferredRegions": ["중구", "종로구"], "maxDistance": 20,
        "autoAccept": true, "minimumFare": 8000}
}))]
pub struct PutDriver {
    /// Korean mobile number (`010…`) or E.164.
    #[schema(pattern = r"^(01[016789][0-9]{7,8}|\+[1-9][0-9]{6,14})$")]
    pub phone: String,
    /// The car.
    pub vehicle_info: VehicleInfo,
    /// What the driver takes.
    pub preferences: DriverPreferences,
}

/// A driver's own profile.
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
    /// Who.
    pub driver_id: String,
    /// Phone number.
    pub phone: String,
    /// When the profile was made.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// The car.
    pub vehicle_info: VehicleInfo,
    /// Where and how the driver is.
    pub current_status: CurrentStatus,
    /// What the driver takes.
    pub preferences: DriverPreferences,
    /// The last rides.
    pub completed_rides: Vec<String>,
}

/// What a driver takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"defaultRideType": "STANDARD", "preferredRegions": ["중구", "종로구"], "maxDistance": 20,
    "autoAccept": true, "minimumFare": 8000}))]
pub struct DriverPreferences {
    /// Ride type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_ride_type: Option<RideType>,
    /// Districts the driver likes.
    #[schema(max_items = 32)]
    pub preferred_regions: Vec<String>,
    /// Farthest pickup, kilometres.
    #[schema(exclusive_minimum = 0, maximum = 1000)]
    pub max_distance: f64,
    /// Whether the driver takes every offer.
    pub auto_accept: bool,
    /// Lowest estimate the driver is offered, whole units of the city's currency.
    #[schema(maximum = 10_000_000)]
    pub minimum_fare: u32,
}

/// Where and how somebody is.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({"status": "ACTIVE", "currentLocation": {"lat": 37.5662, "lng": 126.9784, "address": "서울시 중구 명동"},
        "lastLocationUpdate": "2025-05-25T15:29:00+09:00", "currentDispatchId": null}))]
pub struct CurrentStatus {
    /// Free, on a dispatch, or away.
    pub status: PersonStatus,
    /// Coarse position: as old as the status, not as the last ping.
    pub current_location: Location,
    /// When that position was seen.
    #[schema(format = DateTime)]
    pub last_location_update: String,
    /// The dispatch the person is on.
    pub current_dispatch_id: Option<String>,
}

/// A device that shall get push notifications.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"token": "bk3RNwTe3H0:CI2k_HHwgIpoDKCIZvvDMExUdFQ3P1"}))]
pub struct PutDevice {
    /// FCM registration token. It is neither logged nor given out again.
    #[schema(min_length = 1, max_length = 4096)]
    pub token: String,
}

/// Whether a device gets push notifications.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceRegistered {
    /// False where the city sends no push notifications; the app listens to `GET /v1/events` instead.
    pub push: bool,
}

/// What a driver can wish to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum AvailabilityStatus {
    /// Free for offers.
    Active,
    /// Away.
    Inactive,
}

/// A driver's wish to be offered dispatches or not.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"status": "ACTIVE", "location": {"lat": 37.5662, "lng": 126.9784, "address": "서울시 중구 명동"}}))]
pub struct PutAvailability {
    /// The wish.
    pub status: AvailabilityStatus,
    /// Where the driver is.
    pub location: Location,
}

/// A way to pay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PaymentMethod {
    /// Identity.
    #[schema(min_length = 1, max_length = 100)]
    pub id: String,
    /// Kind.
    #[serde(rename = "type")]
    pub method_type: PaymentType,
    /// Whether it is used unless another is named.
    pub is_default: bool,
}

/// What a user likes.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UserPreferences {
    /// Ride type.
    pub default_ride_type: RideType,
    /// Places the user goes to.
    #[schema(max_items = 50)]
    pub favorite_locations: Vec<FavoriteLocation>,
}

/// A place a user goes to.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FavoriteLocation {
    /// Identity.
    #[schema(min_length = 1, max_length = 100)]
    pub id: String,
    /// Name.
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
    /// Address.
    #[schema(min_length = 1, max_length = 200)]
    pub address: String,
    /// Latitude, degrees.
    #[schema(minimum = -90, maximum = 90)]
    pub lat: f64,
    /// Longitude, degrees.
    #[schema(minimum = -180, maximum = 180)]
    pub lng: f64,
}

/// A driver's car.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VehicleInfo {
    /// Manufacturer.
    #[schema(min_length = 1, max_length = 100)]
    pub manufacturer: String,
    /// Licence plate.
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
