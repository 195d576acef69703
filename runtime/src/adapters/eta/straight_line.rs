//! The straight line, scaled by the city's road factor and driven at its average speed.

use async_trait::async_trait;
use dispatch_core::geo::Coordinate;

use crate::city::City;
use crate::ports::{Eta, PortError};

/// Estimates driving times without roads. The resulting order is that of distance.
pub struct StraightLine(City);

impl StraightLine {
    /// The straight line of a city, by its fare table.
    pub fn new(city: City) -> Self {
        Self(city)
    }
}

#[async_trait]
impl Eta for StraightLine {
    async fn seconds(&self, from: &[Coordinate], to: Coordinate) -> Result<Vec<Option<u32>>, PortError> {
        let settings = self.0.settings();
        Ok(from.iter().map(|place| Some(settings.fare.drive(place.distance_to(to)).1)).collect())
    }
}
