//! The city of a process: its settings, which may change while it runs, and its local time.

use std::fmt::Write as _;
use std::sync::Arc;

use dispatch_api::worker_config::{DispatchConfig, RouterConfig, WorkerConfigError};
use dispatch_core::cancellation::Day;
use dispatch_core::fare::FareTable;
use dispatch_core::geo::Coordinate;
use dispatch_core::policy::DispatchPolicy;
use dispatch_core::privacy::PrivacyPolicy;
use dispatch_core::route::{RouteEntry, RoutePoint};
use dispatch_core::service_area::ServiceArea;
use dispatch_core::time::EpochMs;
use jiff::tz::TimeZone;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

/// Bytes of the digest that identifies a set of rules: enough to distinguish all rule sets of a city.
const RULES_BYTES: usize = 6;

/// The current settings of a city.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Rules of the algorithm.
    pub policy: DispatchPolicy,
    /// Fare table.
    pub fare: FareTable,
    /// Where rides start and end; `None` if anywhere.
    pub service_area: Option<ServiceArea>,
    /// What drivers see of users, and how long data is kept.
    pub privacy: PrivacyPolicy,
    /// The router for driving times; `None` if drivers are ranked by distance.
    pub router: Option<RouterConfig>,
    /// Digest of all settings, 12 hexadecimal digits: the version of the rules in ranking records.
    pub rules: Arc<str>,
}

impl Settings {
    /// Settings from validated rules, without a router.
    pub fn new(policy: DispatchPolicy, fare: FareTable) -> Self {
        let rules = digest(&DispatchConfig::new(&policy, &fare));
        Self { policy, fare, service_area: None, privacy: PrivacyPolicy::default(), router: None, rules }
    }

    /// Validates the settings of the worker configuration.
    pub fn from_config(config: &DispatchConfig) -> Result<Self, WorkerConfigError> {
        Ok(Self {
            policy: config.policy().map_err(WorkerConfigError::Policy)?,
            fare: config.fare_table().map_err(WorkerConfigError::Fare)?,
            service_area: config.checked_area().map_err(WorkerConfigError::ServiceArea)?,
            privacy: config.privacy.policy(),
            router: config.eta.router.clone(),
            rules: digest(config),
        })
    }
}

fn digest(config: &DispatchConfig) -> Arc<str> {
    // Serializing numbers and texts cannot fail.
    let document = serde_json::to_vec(config).unwrap_or_default();
    let mut name = String::new();
    for byte in Sha256::digest(document).iter().take(RULES_BYTES) {
        // Writing to a `String` cannot fail.
        let _ = write!(name, "{byte:02x}");
    }
    name.into()
}

/// The city: name, local time and current settings. Cheap to clone.
#[derive(Clone)]
pub struct City {
    /// Name, which is part of every Redis key.
    pub name: Arc<str>,
    /// ISO 4217 code of its currency.
    pub currency: Arc<str>,
    zone: TimeZone,
    settings: watch::Receiver<Arc<Settings>>,
}

impl City {
    /// A city whose settings follow `settings`.
    pub fn new(name: &str, currency: &str, zone: TimeZone, settings: watch::Receiver<Arc<Settings>>) -> Self {
        Self { name: name.into(), currency: currency.into(), zone, settings }
    }

    /// The current settings. A decision reads them once.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.borrow().clone()
    }

    /// A timestamp as in spec §6: ISO 8601 to the second with the city's offset, `2025-05-25T15:30:00+09:00`.
    pub fn timestamp(&self, at: EpochMs) -> String {
        self.format(at, "%Y-%m-%dT%H:%M:%S%:z")
    }

    /// The same with milliseconds, for attributes that are not part of the specification.
    pub fn timestamp_ms(&self, at: EpochMs) -> String {
        self.format(at, "%Y-%m-%dT%H:%M:%S.%3f%:z")
    }

    /// The time part of a sort key: local, without offset, with milliseconds, `2025-05-25T15:30:00.000`. With the whole
    /// seconds of the specification, two events of one driver could collide.
    pub fn sort_time(&self, at: EpochMs) -> String {
        self.format(at, "%Y-%m-%dT%H:%M:%S.%3f")
    }

    /// Minute of the city's day, 0 to 1439.
    pub fn minute_of_day(&self, at: EpochMs) -> u16 {
        let local = self.local(at);
        u16::from(local.hour().unsigned_abs()) * 60 + u16::from(local.minute().unsigned_abs())
    }

    /// The city's day that contains this time. It has 23 or 25 hours where clocks change.
    pub fn day_around(&self, at: EpochMs) -> Day {
        let local = self.local(at);
        let start = local.start_of_day().unwrap_or_else(|_| local.clone());
        // Fails only at the end of jiff's range.
        let end = local.tomorrow().and_then(|tomorrow| tomorrow.start_of_day()).unwrap_or_else(|_| local.clone());
        let epoch = |time: &jiff::Zoned| EpochMs(time.timestamp().as_millisecond());
        Day { start: epoch(&start), end: epoch(&end) }
    }

    /// The city's date, `20250525`.
    pub fn day(&self, at: EpochMs) -> String {
        self.format(at, "%Y%m%d")
    }

    fn format(&self, at: EpochMs, pattern: &str) -> String {
        self.local(at).strftime(pattern).to_string()
    }

    fn local(&self, at: EpochMs) -> jiff::Zoned {
        // Times outside jiff's range (year -9999 to 9999) cannot come from a clock; they are shown as the epoch.
        jiff::Timestamp::from_millisecond(at.0).unwrap_or_default().to_zoned(self.zone.clone())
    }
}

/// The point of a stored entry of a route; `None` if it has no valid place or time.
pub fn route_point(entry: &RouteEntry) -> Option<RoutePoint> {
    let position = Coordinate::new(entry.lat, entry.lng).ok()?;
    Some(RoutePoint { position, at: parse_timestamp(&entry.timestamp)? })
}

/// Parses a stored timestamp, with or without milliseconds.
pub fn parse_timestamp(text: &str) -> Option<EpochMs> {
    text.parse::<jiff::Timestamp>().ok().map(|at| EpochMs(at.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seoul() -> City {
        let fare = FareTable { night_surcharges: Vec::new(), ..FareTable::default() };
        let settings = Settings::new(DispatchPolicy::default(), fare);
        let (_, receiver) = watch::channel(Arc::new(settings));
        City::new("seoul", "KRW", TimeZone::get("Asia/Seoul").unwrap(), receiver)
    }

    #[test]
    fn a_day_is_that_of_the_citys_time_zone() {
        let at = |text| parse_timestamp(text).unwrap();
        let day = seoul().day_around(at("2025-05-25T15:30:00+09:00"));
        assert_eq!(day, Day { start: at("2025-05-25T00:00:00+09:00"), end: at("2025-05-26T00:00:00+09:00") });
        assert_eq!(seoul().day_around(day.start), day);
        assert_eq!(seoul().day_around(day.end).start, day.end);
        let zone = TimeZone::get("America/New_York").unwrap();
        let new_york = City { zone, ..seoul() };
        let long = new_york.day_around(at("2025-11-02T12:00:00-05:00"));
        assert_eq!(long, Day { start: at("2025-11-02T00:00:00-04:00"), end: at("2025-11-03T00:00:00-05:00") });
        assert_eq!(long.end.since_ms(long.start), 25 * 3_600_000);
    }

    #[test]
    fn times_have_the_format_of_the_specification() {
        let at = parse_timestamp("2025-05-25T15:30:00+09:00").unwrap();
        assert_eq!(seoul().timestamp(at), "2025-05-25T15:30:00+09:00");
        assert_eq!(seoul().timestamp_ms(at.plus_ms(7)), "2025-05-25T15:30:00.007+09:00");
        assert_eq!(seoul().sort_time(at), "2025-05-25T15:30:00.000");
        assert_eq!(seoul().minute_of_day(at), 930);
        assert_eq!(seoul().day(at), "20250525");
        assert_eq!(parse_timestamp(&seoul().timestamp_ms(at.plus_ms(7))), Some(at.plus_ms(7)));
    }
}
