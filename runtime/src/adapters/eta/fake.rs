//! An in-memory router for tests: every road is a straight line unless a test sets a time.

use parking_lot::Mutex;

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
    /// Sets the driving time from this exact position to any destination; `None` means that there is no route.
    pub fn set(&self, from: Coordinate, seconds: Option<u32>) {
        self.state().roads.insert(0, (from, seconds));
    }

    /// The number of positions in each request.
    pub fn asked(&self) -> Vec<usize> {
        self.state().asked.clone()
    }

    fn state(&self) -> parking_lot::MutexGuard<'_, State> {
        self.state.lock()
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
