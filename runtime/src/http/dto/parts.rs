//! Parts of profiles. The table's items have the same shapes, but must read what other services write beside them; a request has
//! nothing beside.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::store::entity::{self, PaymentType, RideType};

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

impl From<entity::PaymentMethod> for PaymentMethod {
    fn from(entity::PaymentMethod { id, method_type, is_default }: entity::PaymentMethod) -> Self {
        Self { id, method_type, is_default }
    }
}

impl From<PaymentMethod> for entity::PaymentMethod {
    fn from(PaymentMethod { id, method_type, is_default }: PaymentMethod) -> Self {
        Self { id, method_type, is_default }
    }
}

impl From<entity::UserPreferences> for UserPreferences {
    fn from(stored: entity::UserPreferences) -> Self {
        let favorite_locations = stored.favorite_locations.into_iter().map(Into::into).collect();
        Self { default_ride_type: stored.default_ride_type, favorite_locations }
    }
}

impl From<UserPreferences> for entity::UserPreferences {
    fn from(given: UserPreferences) -> Self {
        let favorite_locations = given.favorite_locations.into_iter().map(Into::into).collect();
        Self { default_ride_type: given.default_ride_type, favorite_locations }
    }
}

impl From<entity::FavoriteLocation> for FavoriteLocation {
    fn from(entity::FavoriteLocation { id, name, address, lat, lng }: entity::FavoriteLocation) -> Self {
        Self { id, name, address, lat, lng }
    }
}

impl From<FavoriteLocation> for entity::FavoriteLocation {
    fn from(FavoriteLocation { id, name, address, lat, lng }: FavoriteLocation) -> Self {
        Self { id, name, address, lat, lng }
    }
}

impl From<entity::VehicleInfo> for VehicleInfo {
    fn from(entity::VehicleInfo { manufacturer, license_plate }: entity::VehicleInfo) -> Self {
        Self { manufacturer, license_plate }
    }
}

impl From<VehicleInfo> for entity::VehicleInfo {
    fn from(VehicleInfo { manufacturer, license_plate }: VehicleInfo) -> Self {
        Self { manufacturer, license_plate }
    }
}
