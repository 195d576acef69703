//! What is said of users and drivers, in the words of the table and of the API.

/// The seed's `status` of a driver or user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "UPPERCASE"))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum PersonStatus {
    /// Free.
    Active,
    /// On a dispatch.
    Dispatched,
    /// Away.
    Inactive,
}

impl PersonStatus {
    /// The spelling of the table and of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Dispatched => "DISPATCHED",
            Self::Inactive => "INACTIVE",
        }
    }
}

/// The seed's ride types.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "UPPERCASE"))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum RideType {
    /// The usual ride.
    #[default]
    Standard,
    /// A better car.
    Premium,
    /// A cheaper one.
    Economy,
}

/// The seed's payment types.
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
