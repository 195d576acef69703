//! The rules for the fields of requests. No code after this module handles an unchecked value.

use std::fmt::{self, Display};

use dispatch_core::geo::{Coordinate, CoordinateError, Location};
use dispatch_core::ids::{DriverId, IdError, UserId};
use dispatch_core::time::EpochMs;
use dispatch_http_types as dto;

use super::problem::ApiError;
use super::visible_text;
use crate::city::parse_timestamp;
use crate::ports::{DriverProfile, UserProfile};

/// Maximum characters of an address. The longest Korean road addresses with building and floor have about 100.
const ADDRESS_CHARS_MAX: usize = 200;
/// Maximum characters of a short name: a manufacturer, a licence plate, a district, a favourite.
pub(super) const NAME_CHARS_MAX: usize = 100;
/// Maximum characters of a reason.
const REASON_CHARS_MAX: usize = 200;
/// Maximum payment methods of one user.
const PAYMENT_METHODS_MAX: usize = 20;
/// Maximum favourite places of one user: with 200 characters each they take less than 50 of the 400 KB of an item.
const FAVORITES_MAX: usize = 50;
/// Maximum preferred districts of a driver; Seoul has 25.
const REGIONS_MAX: usize = 32;
/// Maximum distance to a pickup, km: larger than any city.
const MAX_DISTANCE_KM: f64 = 1000.0;
/// Highest minimum fare, whole units of currency.
const MINIMUM_FARE_MAX: u32 = 10_000_000;
/// Maximum characters of a device token. FCM does not document a length; current tokens have about 160.
const TOKEN_CHARS_MAX: usize = 4096;
/// Maximum value of an accuracy, m: half the earth's circumference.
const ACCURACY_M_MAX: f64 = 20_020_000.0;

/// A user's id in a body.
pub(crate) fn user_id(field: &str, text: &str) -> Result<UserId, ApiError> {
    UserId::parse(text).map_err(|error: IdError| ApiError::field(field, error.to_string()))
}

/// A driver's id in a body.
pub(crate) fn driver_id(field: &(impl Display + ?Sized), text: impl Into<String>) -> Result<DriverId, ApiError> {
    DriverId::parse(text).map_err(|error: IdError| ApiError::field(field.to_string(), error.to_string()))
}

/// The index of an entry in `locations`, as the prefix of its fields. It is formatted only for an error.
pub(crate) struct Entry(pub usize);

impl Entry {
    /// The entry itself as a field.
    pub(crate) fn whole(&self) -> String {
        format!("locations[{}]", self.0)
    }
}

impl Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "locations[{}].", self.0)
    }
}

/// A reason of operations.
pub(crate) fn reason(field: &str, given: &str) -> Result<(), ApiError> {
    text(field, given, REASON_CHARS_MAX)
}

/// A position. `prefix` is empty or ends with a dot.
pub(crate) fn coordinate(prefix: &(impl Display + ?Sized), lat: f64, lng: f64) -> Result<Coordinate, ApiError> {
    Coordinate::new(lat, lng).map_err(|error| {
        let name = match error {
            CoordinateError::Latitude => "lat",
            CoordinateError::Longitude => "lng",
        };
        ApiError::field(format!("{prefix}{name}"), error.to_string())
    })
}

/// A place with its address.
pub(crate) fn location(field: &str, given: &dto::Location) -> Result<(Coordinate, Location), ApiError> {
    let position = coordinate(&format!("{field}."), given.lat, given.lng)?;
    text(&format!("{field}.address"), &given.address, ADDRESS_CHARS_MAX)?;
    Ok((position, given.clone().into()))
}

/// The accuracy of a ping, if the device reports one.
pub(crate) fn ping_accuracy(
    prefix: &(impl Display + ?Sized),
    accuracy_m: Option<f64>,
) -> Result<Option<f64>, ApiError> {
    if accuracy_m.is_some_and(|metres| !(0.0..=ACCURACY_M_MAX).contains(&metres)) {
        return Err(ApiError::field(
            format!("{prefix}accuracyMeters"),
            "must be a distance in metres that is not negative",
        ));
    }
    Ok(accuracy_m)
}

/// The time of a ping by the device's clock, if the device reports one.
pub(crate) fn ping_time(
    prefix: &(impl Display + ?Sized),
    timestamp: Option<&str>,
) -> Result<Option<EpochMs>, ApiError> {
    let read = |text| {
        let wrong = || {
            ApiError::field(
                format!("{prefix}timestamp"),
                "must be an ISO 8601 time with an offset, such as 2025-05-25T15:30:00+09:00",
            )
        };
        parse_timestamp(text).ok_or_else(wrong)
    };
    timestamp.map(read).transpose()
}

/// A user's profile.
pub(crate) fn user_profile(given: dto::PutUser) -> Result<UserProfile, ApiError> {
    phone("phone", &given.phone)?;
    bounded("paymentMethods", given.payment_methods.len(), PAYMENT_METHODS_MAX)?;
    for (index, method) in given.payment_methods.iter().enumerate() {
        text(&format!("paymentMethods[{index}].id"), &method.id, NAME_CHARS_MAX)?;
    }
    if given.payment_methods.iter().filter(|method| method.is_default).count() > 1 {
        return Err(ApiError::field("paymentMethods", "at most one entry can have isDefault true"));
    }
    bounded("preferences.favoriteLocations", given.preferences.favorite_locations.len(), FAVORITES_MAX)?;
    for (index, favorite) in given.preferences.favorite_locations.iter().enumerate() {
        let prefix = format!("preferences.favoriteLocations[{index}].");
        text(&format!("{prefix}id"), &favorite.id, NAME_CHARS_MAX)?;
        text(&format!("{prefix}name"), &favorite.name, NAME_CHARS_MAX)?;
        text(&format!("{prefix}address"), &favorite.address, ADDRESS_CHARS_MAX)?;
        coordinate(&prefix, favorite.lat, favorite.lng)?;
    }
    let (_, location) = location("currentLocation", &given.current_location)?;
    Ok(UserProfile {
        phone: given.phone,
        payment_methods: given.payment_methods.into_iter().map(Into::into).collect(),
        preferences: given.preferences.into(),
        location,
    })
}

/// A driver's profile.
pub(crate) fn driver_profile(given: dto::PutDriver) -> Result<DriverProfile, ApiError> {
    phone("phone", &given.phone)?;
    text("vehicleInfo.manufacturer", &given.vehicle_info.manufacturer, NAME_CHARS_MAX)?;
    text("vehicleInfo.licensePlate", &given.vehicle_info.license_plate, NAME_CHARS_MAX)?;
    let preferences = given.preferences;
    bounded("preferences.preferredRegions", preferences.preferred_regions.len(), REGIONS_MAX)?;
    for (index, region) in preferences.preferred_regions.iter().enumerate() {
        text(&format!("preferences.preferredRegions[{index}]"), region, NAME_CHARS_MAX)?;
    }
    let distance = preferences.max_distance;
    if !(distance > 0.0 && distance <= MAX_DISTANCE_KM) {
        return Err(ApiError::field(
            "preferences.maxDistance",
            "must be greater than 0 and at most 1000, in kilometres",
        ));
    }
    if preferences.minimum_fare > MINIMUM_FARE_MAX {
        return Err(ApiError::field("preferences.minimumFare", "must be at most 10000000, in whole units of currency"));
    }
    Ok(DriverProfile { phone: given.phone, vehicle_info: given.vehicle_info.into(), preferences: preferences.into() })
}

/// Checks that a device token is plain text. FCM decides whether it is valid.
pub(crate) fn device_token(token: &str) -> Result<(), ApiError> {
    if (1..=TOKEN_CHARS_MAX).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(());
    }
    Err(ApiError::field("token", format!("must have 1 to {TOKEN_CHARS_MAX} visible ASCII characters")))
}

/// Whether a phone number is a Korean mobile number in the format of spec §6 (`01012341234`) or an E.164 number (`+`,
/// no leading zero, at most 15 digits).
pub(crate) fn is_phone(text: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if let Some(international) = text.strip_prefix('+') {
        return (7..=15).contains(&international.len()) && digits(international) && !international.starts_with('0');
    }
    let korean = ["010", "011", "016", "017", "018", "019"].iter().any(|prefix| text.starts_with(prefix));
    korean && (10..=11).contains(&text.len()) && digits(text)
}

fn phone(field: &str, given: &str) -> Result<(), ApiError> {
    if is_phone(given) {
        return Ok(());
    }
    Err(ApiError::field(
        field,
        "must be a Korean mobile number such as 01012341234 or an E.164 number such as +821012341234",
    ))
}

/// Checks a text for display: at most `chars_max` characters, and what [`visible_text`] says.
fn text(field: &str, given: &str, chars_max: usize) -> Result<(), ApiError> {
    if given.chars().count() > chars_max || !visible_text::is_visible(given) {
        let rule = format!("must have 1 to {chars_max} characters: a visible one, and no control or invisible ones");
        return Err(ApiError::field(field, rule));
    }
    Ok(())
}

fn bounded(field: &str, length: usize, max: usize) -> Result<(), ApiError> {
    if length <= max { Ok(()) } else { Err(ApiError::field(field, format!("must have at most {max} entries"))) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn phones_are_korean_mobile_numbers_or_e164() {
        for good in ["01012341234", "0111231234", "+821012341234", "+12025550123"] {
            assert!(is_phone(good), "{good}");
        }
        for bad in ["", "010", "02-123-4567", "010-1234-1234", "0101234123４", "+0821012341234", "+82 10", "011234567"]
        {
            assert!(!is_phone(bad), "{bad}");
        }
    }

    #[test]
    fn text_with_invisible_characters_is_refused() {
        let said = |address: &str| {
            location("at", &dto::Location { lat: 37.5, lng: 127.0, address: address.to_owned() }).is_ok()
        };
        assert!(said("서울시 중구 명동 1-2 (명동빌딩 3층)") && said("شارع الملك") && said("Äußere Straße 1"));
        for hidden in
            ["a\0b", "a\u{202e}b", "\u{2066}a\u{2069}", "a\u{200b}b", "a\u{2028}b", "\u{feff}a", "a\nb", "a\u{7f}b"]
        {
            assert!(!said(hidden), "{hidden:?}");
        }
    }

    proptest! {
        #[test]
        fn every_korean_mobile_number_is_a_phone(rest in "[0-9]{8}") {
            prop_assert!(is_phone(&format!("010{rest}")), "{rest}");
            prop_assert!(is_phone(&format!("+8210{rest}")), "{rest}");
        }

        #[test]
        fn what_is_a_phone_matches_the_documented_pattern(text in r"\PC{0,18}|[+]?[0-9]{0,17}") {
            let plain = text.trim_start_matches('+');
            if is_phone(&text) {
                prop_assert!(plain.bytes().all(|b| b.is_ascii_digit()) && (7..=15).contains(&plain.len()));
            }
        }

        #[test]
        fn ids_in_bodies_are_read_unchanged(suffix in "[A-Za-z0-9_-]{1,64}", other in r"\PC{0,80}") {
            let whole = format!("driver#{suffix}");
            let id = driver_id("driverId", &whole).map(|id| id.as_str().to_owned());
            prop_assert_eq!(id.ok(), Some(whole));
            if let Ok(id) = user_id("userId", &other) {
                prop_assert_eq!(id.as_str(), other);
            }
        }

        #[test]
        fn positions_are_accepted_exactly_within_their_ranges(lat in any::<f64>(), lng in any::<f64>()) {
            let inside = (-90.0..=90.0).contains(&lat) && (-180.0..=180.0).contains(&lng);
            prop_assert_eq!(coordinate("", lat, lng).is_ok(), inside);
        }

        #[test]
        fn addresses_have_bounds_and_no_control_characters(address in r"\PC{0,220}|[\x00-\x20]{0,4}") {
            let given = dto::Location { lat: 37.5, lng: 127.0, address: address.clone() };
            let allowed = !address.trim().is_empty()
                && address.chars().count() <= 200
                && visible_text::is_visible(&address);
            prop_assert_eq!(location("at", &given).is_ok(), allowed);
        }
    }
}
