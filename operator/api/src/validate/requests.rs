//! `spec.dispatch`: rules for requests of rides.

use dispatch_core::policy::CancellationPolicy;
use dispatch_core::service_area::{AreaError, Rings, ServiceArea};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::errors::Findings;
use crate::dispatch_system::{CancellationsSpec, DispatchSystemSpec, PolygonSpec};

const AREA: &str = "spec.dispatch.serviceArea";

/// A winter day and a summer day: the standard time of a zone has the smaller difference to UTC.
const SEASONS: [Timestamp; 2] = [Timestamp::constant(1_767_225_600, 0), Timestamp::constant(1_782_864_000, 0)];

/// Degrees of longitude per second of the difference to UTC.
const DEGREES_PER_SECOND: f64 = 1.0 / 240.0;

/// The limits for users who request and cancel.
pub(super) fn cancellations(spec: &CancellationsSpec) -> CancellationPolicy {
    CancellationPolicy {
        cool_down_after: spec.cool_down_after,
        window_ms: u64::from(spec.window_seconds) * 1000,
        cool_down_ms: u64::from(spec.cool_down_seconds) * 1000,
        daily_max: spec.daily_max,
    }
}

/// The service area; `None` if there is none, or if it is invalid.
pub(super) fn service_area(spec: &DispatchSystemSpec, found: &mut Findings) -> Option<ServiceArea> {
    let area = spec.dispatch.service_area.as_ref()?;
    let (name, polygons): (&str, Vec<Rings>) = match (&area.polygon, &area.multi_polygon) {
        (Some(PolygonSpec(rings)), None) => ("polygon", vec![rings.clone()]),
        (None, Some(polygons)) => ("multiPolygon", polygons.iter().map(|polygon| polygon.0.clone()).collect()),
        (given, _) => {
            let given = if given.is_some() { "both are set" } else { "neither is set" };
            found.say(AREA, format!("exactly one of polygon and multiPolygon is required, {given}"));
            return None;
        }
    };
    if found.has(AREA) {
        // Reported by the check of the schema.
        return None;
    }
    match ServiceArea::from_polygons(&polygons) {
        Ok(valid) => {
            if standard_longitude(&spec.timezone).is_some_and(|lng| valid.looks_swapped(lng)) {
                let near = "must be near the time zone of the city: a position is [longitude, latitude], and all of \
                            these seem to have the latitude first";
                found.say(&format!("{AREA}.{name}"), near);
            }
            Some(valid)
        }
        Err(AreaError::Invalid { at, problem }) => {
            let indexes = if name == "polygon" { at.in_polygon() } else { at.to_string() };
            found.say(&format!("{AREA}.{name}{indexes}"), problem.to_string());
            None
        }
        Err(error @ (AreaError::Empty | AreaError::TooLarge { .. })) => {
            found.say(&format!("{AREA}.{name}"), error.to_string());
            None
        }
    }
}

/// The longitude at which the sun is highest at noon of a time zone's standard time.
fn standard_longitude(zone: &str) -> Option<f64> {
    let zone = TimeZone::get(zone).ok()?;
    let seconds = SEASONS.iter().map(|at| zone.to_offset(*at).seconds()).min()?;
    Some(f64::from(seconds) * DEGREES_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_zone_has_a_longitude() {
        for (zone, lng) in [("Asia/Seoul", 135.0), ("America/New_York", -75.0), ("Australia/Sydney", 150.0)] {
            assert_eq!(standard_longitude(zone), Some(lng), "{zone}");
        }
        assert_eq!(standard_longitude("Nowhere"), None);
    }
}
