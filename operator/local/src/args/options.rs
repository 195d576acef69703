//! Option values with a syntax of their own.

use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

/// Longest `--for`. A run without `--for` has no limit.
const RUN_MAX: Duration = Duration::from_hours(24);

/// Most drivers of one simulator; each is a task that sends pings.
const DRIVERS_MAX: u32 = 20_000;

/// Most requests per second of one simulator.
const RATE_MAX: f64 = 1_000.0;

/// Default seed: every run plays the same city.
const SEED: u64 = 42;

/// Traffic to simulate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Simulation {
    /// Number of drivers on duty.
    pub drivers: u32,
    /// Requests per second, on average.
    pub rate: f64,
    /// Seed of every random choice.
    pub seed: u64,
}

/// Why an option value is refused.
#[derive(Debug, Error, PartialEq)]
pub enum OptionError {
    #[error("{0:?} is not drivers=NUMBER,rate=REQUESTS_PER_SECOND[,seed=NUMBER]")]
    SimulationForm(String),
    /// An unknown or repeated key.
    #[error("{0:?} is not allowed here; allowed are drivers, rate and seed, each once")]
    SimulationKey(String),
    /// A value that is not a number, or out of bounds.
    #[error("{key}={value}: {allowed}")]
    SimulationValue { key: &'static str, value: String, allowed: &'static str },
    #[error("{0:?} is not a duration like 90s, 5m or 1h, of at most 24h")]
    Duration(String),
}

impl FromStr for Simulation {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        let (mut drivers, mut rate, mut seed) = (None, None, None);
        for part in text.split(',') {
            let (key, value) = part.split_once('=').ok_or_else(|| OptionError::SimulationForm(text.to_owned()))?;
            let before = match key.trim() {
                "drivers" => drivers.replace(value.trim()),
                "rate" => rate.replace(value.trim()),
                "seed" => seed.replace(value.trim()),
                _ => return Err(OptionError::SimulationKey(key.to_owned())),
            };
            if before.is_some() {
                return Err(OptionError::SimulationKey(key.to_owned()));
            }
        }
        let (Some(drivers), Some(rate)) = (drivers, rate) else {
            return Err(OptionError::SimulationForm(text.to_owned()));
        };
        Ok(Self {
            drivers: value("drivers", drivers, "must be 1 to 20000", |n: &u32| (1..=DRIVERS_MAX).contains(n))?,
            rate: value("rate", rate, "must be more than 0 and at most 1000 requests per second", |n: &f64| {
                *n > 0.0 && *n <= RATE_MAX
            })?,
            seed: seed.map_or(Ok(SEED), |seed| value("seed", seed, "must be a whole number", |_: &u64| true))?,
        })
    }
}

fn value<T: FromStr>(
    key: &'static str,
    text: &str,
    allowed: &'static str,
    within: impl Fn(&T) -> bool,
) -> Result<T, OptionError> {
    let refusal = || OptionError::SimulationValue { key, value: text.to_owned(), allowed };
    text.parse().ok().filter(within).ok_or_else(refusal)
}

/// Reads `90s`, `5m` or `1h`.
pub(crate) fn duration(text: &str) -> Result<Duration, OptionError> {
    let refusal = || OptionError::Duration(text.to_owned());
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(refusal)?;
    let (number, unit) = text.split_at(unit_at);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(refusal()),
    };
    let number: u64 = number.parse().map_err(|_| refusal())?;
    let duration = Duration::from_secs(number.checked_mul(seconds).ok_or_else(refusal)?);
    if duration.is_zero() || duration > RUN_MAX { Err(refusal()) } else { Ok(duration) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulation_has_drivers_a_rate_and_optionally_a_seed() {
        assert_eq!("drivers=300,rate=2".parse(), Ok(Simulation { drivers: 300, rate: 2.0, seed: SEED }));
        assert_eq!("rate=0.5, seed=7, drivers=1".parse(), Ok(Simulation { drivers: 1, rate: 0.5, seed: 7 }));
    }

    #[test]
    fn a_wrong_simulation_is_refused_with_the_allowed_values() {
        let refused = |text: &str| text.parse::<Simulation>().unwrap_err().to_string();
        insta::assert_snapshot!([
            "", "drivers=300", "drivers", "drivers=300,rate=2,cars=1", "drivers=1,drivers=2,rate=1", "drivers=0,rate=1",
            "drivers=1,rate=0", "drivers=1,rate=NaN", "drivers=1,rate=1,seed=-1",
        ]
        .map(refused)
        .join("\n"), @r#"
        "" is not drivers=NUMBER,rate=REQUESTS_PER_SECOND[,seed=NUMBER]
        "drivers=300" is not drivers=NUMBER,rate=REQUESTS_PER_SECOND[,seed=NUMBER]
        "drivers" is not drivers=NUMBER,rate=REQUESTS_PER_SECOND[,seed=NUMBER]
        "cars" is not allowed here; allowed are drivers, rate and seed, each once
        "drivers" is not allowed here; allowed are drivers, rate and seed, each once
        drivers=0: must be 1 to 20000
        rate=0: must be more than 0 and at most 1000 requests per second
        rate=NaN: must be more than 0 and at most 1000 requests per second
        seed=-1: must be a whole number
        "#);
    }

    #[test]
    fn durations_have_a_unit_and_a_bound() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("5m"), Ok(Duration::from_mins(5)));
        assert_eq!(duration("24h"), Ok(RUN_MAX));
        for wrong in ["", "60", "s", "0s", "25h", "1d", "-1s", "1.5s", "99999999999999999999s", "1 s"] {
            assert_eq!(duration(wrong), Err(OptionError::Duration(wrong.to_owned())));
        }
    }
}
