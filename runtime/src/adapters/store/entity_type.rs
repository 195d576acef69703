//! Values of the attribute `EntityType`.

/// `EntityType` of a driver's profile.
pub const DRIVER: &str = "DRIVER";
/// `EntityType` of a user's profile.
pub(crate) const USER: &str = "USER";
