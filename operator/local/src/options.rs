//! Values of `local`'s options that have a form of their own.

use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

/// Longest `--for`: a day. Longer runs want `make up`.
const RUN_MAX: Duration = Duration::from_hours(24);

/// Most drivers one simulator is asked for; each is a task that pings.
const DRIVERS_MAX: u32 = 20_000;

/// Most requests a second one simulator is asked for.
const RATE_MAX: f64 = 1_000.0;

/// Seed where none is given: every run plays the same city.
const SEED: u64 = 42;

/// What the simulator is to play.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Simulation {
    /// Drivers on duty.
    pub drivers: u32,
    /// Requests a second.
    pub rate: f64,
    /// Seed of every random choice.
    pub seed: u64,
}

/// Why a value is refused.
#[derive(Debug, Error, PartialEq)]
pub enum OptionError {
    /// Not `key=value` pairs.
    #[error("{0:?} is not drivers=NUMBER,rate=REQUESTS_PER_SECOND[,seed=NUMBER]")]
    SimulationForm(String),
    /// A key that is not known, or twice there.
    #[error("{0:?} is not allowed here; allowed are drivers, rate and seed, each once")]
    SimulationKey(String),
    /// A value out of bounds.
    #[error("{key}={value}: {allowed}")]
    SimulationValue {
        /// The key.
        key: &'static str,
        /// What was given.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// Not a duration.
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
            drivers: value("drivers", drivers, "1 to 20000 is allowed", |n: &u32| (1..=DRIVERS_MAX).contains(n))?,
            rate: value("rate", rate, "more than 0 and up to 1000 requests a second is allowed", |n: &f64| {
                *n > 0.0 && *n <= RATE_MAX
            })?,
            seed: seed.map_or(Ok(SEED), |seed| value("seed", seed, "a whole number is allowed", |_: &u64| true))?,
        })
    }
}

fn value<T: FromStr>(
    key: &'static str,
    text: &str,
    allowed: &'static str,
    within: impl Fn(&T) -> bool,
) -> Result<T, OptionError> {
    let refused = || OptionError::SimulationValue { key, value: text.to_owned(), allowed };
    text.parse().ok().filter(within).ok_or_else(refused)
}

/// Reads `90s`, `5m` or `1h`.
pub fn duration(text: &str) -> Result<Duration, OptionError> {
    let refused = || OptionError::Duration(text.to_owned());
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(refused)?;
    let (number, unit) = text.split_at(unit_at);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(refused()),
    };
    let number: u64 = number.parse().map_err(|_| refused())?;
    let duration = Duration::from_secs(number.checked_mul(seconds).ok_or_else(refused)?);
    if duration.is_zero() || duration > RUN_MAX { Err(refused()) } else { Ok(duration) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulation_names_drivers_and_rate_and_perhaps_a_seed() {
        assert_eq!("drivers=300,rate=2".parse(), Ok(Simulation { drivers: 300, rate: 2.0, seed: SEED }));
        assert_eq!("rate=0.5, seed=7, drivers=1".parse(), Ok(Simulation { drivers: 1, rate: 0.5, seed: 7 }));
    }

    #[test]
    fn a_wrong_simulation_is_refused_with_what_is_allowed() {
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
        drivers=0: 1 to 20000 is allowed
        rate=0: more than 0 and up to 1000 requests a second is allowed
        rate=NaN: more than 0 and up to 1000 requests a second is allowed
        seed=-1: a whole number is allowed
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
