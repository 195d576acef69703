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
