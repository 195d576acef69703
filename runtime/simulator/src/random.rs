//! Random choices that can be repeated: each actor has its own stream of the run's seed, so that no actor's choices depend on
//! how fast another one is.

use std::f64::consts::TAU;
use std::ops::Range;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Whose choices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// What a driver is like.
    DriverProfile(u32),
    /// How a driver answers and how long its trips are.
    DriverHabits(u32),
    /// Where a free driver cruises.
    Cruise(u32),
    /// When requests arrive.
    Arrivals,
    /// One request: its places and its user's patience.
    Request(u32),
    /// Pauses of an event stream that broke, by listener.
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

/// An actor's stream of random numbers.
#[derive(Debug, Clone)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// The stream of `actor` in the run of `seed`.
    pub fn of(seed: u64, actor: Actor) -> Self {
        let mut stream = ChaCha8Rng::seed_from_u64(seed);
        stream.set_stream(actor.stream());
        Self(stream)
    }

    /// True with this probability, 0 to 1.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// 0 up to, not including, 1.
    pub fn unit(&mut self) -> f64 {
        self.0.random()
    }

    /// A number of the range.
    pub fn between(&mut self, range: Range<f64>) -> f64 {
        range.start + (range.end - range.start) * self.unit()
    }

    /// One of several; `None` where there are none.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() { None } else { from.get(self.0.random_range(0..from.len())) }
    }

    /// Standard normal (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        // 1 - unit() is never 0.
        (-2.0 * (1.0 - self.unit()).ln()).sqrt() * (TAU * self.unit()).cos()
    }

    /// Log-normal with this median and spread.
    pub fn log_normal(&mut self, median: f64, sigma: f64) -> f64 {
        median * (sigma * self.normal()).exp()
    }

    /// Exponential with this mean: time to the next arrival of a Poisson process.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -(1.0 - self.unit()).ln() * mean
    }
}

/// Whole milliseconds of some seconds; nothing negative, at most a year.
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
        let first = |seed, actor| Dice::of(seed, actor).unit().to_bits();
        assert_eq!(first(1, Actor::Request(7)), first(1, Actor::Request(7)));
        assert_ne!(first(1, Actor::Request(7)), first(1, Actor::Request(8)));
        assert_ne!(first(1, Actor::Request(7)), first(1, Actor::DriverProfile(7)));
        assert_ne!(first(1, Actor::Request(7)), first(2, Actor::Request(7)));
    }

    #[test]
    fn distributions_have_the_centres_they_are_asked_for() {
        let mut dice = Dice::of(3, Actor::Arrivals);
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
