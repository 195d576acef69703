//! Attributes of users and drivers, with their values in the table and in the API.

/// Status of a driver or user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "UPPERCASE"))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum PersonStatus {
    /// Available.
    Active,
    /// On a dispatch.
    Dispatched,
    /// Not available.
    Inactive,
}

impl PersonStatus {
    /// The value in the table and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Dispatched => "DISPATCHED",
            Self::Inactive => "INACTIVE",
        }
    }
}

/// Ride type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "UPPERCASE"))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum RideType {
    /// Standard ride.
    #[default]
    Standard,
    /// Higher-class car.
    Premium,
    /// Lower-priced ride.
    Economy,
}

/// Payment type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "SCREAMING_SNAKE_CASE"))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum PaymentType {
    /// Credit card.
    CreditCard,
    /// Debit card.
    DebitCard,
    /// Digital wallet.
    DigitalWallet,
}

/// A driver's car.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "camelCase"))]
pub struct VehicleInfo {
    pub manufacturer: String,
    pub license_plate: String,
}

/// Which dispatches a driver takes.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "camelCase"))]
pub struct DriverPreferences {
    /// Absent in the short example of spec §7.3.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub default_ride_type: Option<RideType>,
    /// Districts the driver prefers, for example `중구`.
    pub preferred_regions: Vec<String>,
    /// Farthest pickup, **kilometres**.
    pub max_distance: f64,
    /// Whether the driver accepts every offer automatically.
    pub auto_accept: bool,
    /// Lowest fare estimate the driver is offered.
    #[cfg_attr(feature = "serde", serde(deserialize_with = "crate::number::whole"))]
    pub minimum_fare: u32,
}

/// A user's payment method.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "camelCase"))]
pub struct PaymentMethod {
    pub id: String,
    #[cfg_attr(feature = "serde", serde(rename = "type"))]
    pub method_type: PaymentType,
    pub is_default: bool,
}

/// A user's preferences. Without `Debug`: it holds places.
#[derive(Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "camelCase"))]
pub struct UserPreferences {
    pub default_ride_type: RideType,
    pub favorite_locations: Vec<FavoriteLocation>,
}

/// A place a user has saved. Without `Debug`, as every place of a person.
#[derive(Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "camelCase"))]
pub struct FavoriteLocation {
    pub id: String,
    pub name: String,
    pub address: String,
    /// Degrees.
    pub lat: f64,
    /// Degrees.
    pub lng: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_spelled_as_in_the_specification() {
        let spelled =
            [PersonStatus::Active, PersonStatus::Dispatched, PersonStatus::Inactive].map(PersonStatus::as_str);
        assert_eq!(spelled, ["ACTIVE", "DISPATCHED", "INACTIVE"]);
    }
}
