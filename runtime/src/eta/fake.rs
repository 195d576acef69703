//! A router in memory, for tests: every road is a straight line, unless a test says otherwise.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use dispatch_core::fare::FareTable;
use dispatch_core::geo::Coordinate;

use crate::ports::{Eta, PortError};

/// The router.
#[derive(Default)]
pub struct FakeRouter {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    roads: Vec<(Coordinate, Option<u32>)>,
    asked: Vec<usize>,
}

impl FakeRouter {
    /// From now on a car needs `seconds` from this very place, wherever it goes; `None`: there is no way.
    pub fn set(&self, from: Coordinate, seconds: Option<u32>) {
        self.state().roads.insert(0, (from, seconds));
    }

    /// How many places were asked about, question by question.
    pub fn asked(&self) -> Vec<usize> {
        self.state().asked.clone()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Eta for FakeRouter {
    async fn seconds(&self, from: &[Coordinate], to: Coordinate) -> Result<Vec<Option<u32>>, PortError> {
        let fare = FareTable::default();
        let mut state = self.state();
        state.asked.push(from.len());
        let known =
            |place: &Coordinate| state.roads.iter().find(|(from, _)| from == place).map(|(_, seconds)| *seconds);
        Ok(from.iter().map(|place| known(place).unwrap_or_else(|| Some(fare.drive(place.distance_to(to)).1))).collect())
    }
}
