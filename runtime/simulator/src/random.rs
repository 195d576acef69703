//! Reproducible random choices. Each actor has its own random stream of the run's seed, so that the choices of one
//! actor do not depend on the speed of another.

use std::f64::consts::TAU;
use std::ops::Range;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The actor that makes a choice, with its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// The profile of a driver.
    DriverProfile(u32),
    /// The answers of a driver and the durations of its trips.
    DriverHabits(u32),
    /// The route of a free driver.
    Cruise(u32),
    /// The arrival times of requests.
    Arrivals,
    /// The places of a request, and whether and when its user cancels.
    Request(u32),
    /// The pauses of a listener before it reconnects.
    Reconnect(u32),
}

impl Actor {
    fn stream(self) -> u64 {
        let (kind, number) = match self {
            Self::DriverProfile(number) => (1, number),
            Self::DriverHabits(number) => (2, number),
            Self::Cruise(number) => (3, number),
            Self::Arrivals => (4, 0),
            Self::Request(number) => (5, number),
            Self::Reconnect(number) => (6, number),
        };
        kind << 32 | u64::from(number)
    }
}

/// The random stream of an actor.
#[derive(Debug, Clone)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    pub fn for_actor(seed: u64, actor: Actor) -> Self {
        let mut stream = ChaCha8Rng::seed_from_u64(seed);
        stream.set_stream(actor.stream());
        Self(stream)
    }

    /// True with the given probability, 0 to 1.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// A number from 0 to 1, without 1.
    pub fn unit(&mut self) -> f64 {
        self.0.random()
    }

    pub fn between(&mut self, range: Range<f64>) -> f64 {
        range.start + (range.end - range.start) * self.unit()
    }

    /// A random element; `None` if the slice is empty.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() { None } else { from.get(self.0.random_range(0..from.len())) }
    }

    /// A standard normal number (Box-Muller).
    pub fn normal(&mut self) -> f64 {
        // 1 - unit() is never 0.
        (-2.0 * (1.0 - self.unit()).ln()).sqrt() * (TAU * self.unit()).cos()
    }

    /// A log-normal number with the given median and sigma.
    pub fn log_normal(&mut self, median: f64, sigma: f64) -> f64 {
        median * (sigma * self.normal()).exp()
    }

    /// An exponential number with the given mean: the time to the next arrival of a Poisson process.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -(1.0 - self.unit()).ln() * mean
    }
}

/// Seconds as whole milliseconds, from 0 to a year.
pub fn millis(seconds: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to a year")]
    let whole = (seconds * 1000.0).clamp(0.0, 31_536_000_000.0) as u64;
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ_by_actor_and_seed() {
        let first = |seed, actor| Dice::for_actor(seed, actor).unit().to_bits();
        assert_eq!(first(1, Actor::Request(7)), first(1, Actor::Request(7)));
        assert_ne!(first(1, Actor::Request(7)), first(1, Actor::Request(8)));
        assert_ne!(first(1, Actor::Request(7)), first(1, Actor::DriverProfile(7)));
        assert_ne!(first(1, Actor::Request(7)), first(2, Actor::Request(7)));
    }

    #[test]
    fn distributions_have_the_requested_centres() {
        let mut dice = Dice::for_actor(3, Actor::Arrivals);
        let mut delays: Vec<f64> = (0..10_001).map(|_| dice.log_normal(6.0, 0.5)).collect();
        delays.sort_by(f64::total_cmp);
        assert!((delays[5_000] - 6.0).abs() < 0.2, "{}", delays[5_000]);
        let mean = (0..10_000).map(|_| dice.exponential(0.5)).sum::<f64>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
        let heads = (0..10_000).filter(|_| dice.chance(0.85)).count();
        assert!((8_300..8_700).contains(&heads), "{heads}");
    }

    #[test]
    fn milliseconds_are_never_negative_nor_endless() {
        assert_eq!((millis(1.5), millis(-1.0), millis(f64::INFINITY)), (1_500, 0, 31_536_000_000));
    }
}
