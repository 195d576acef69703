//! The time-distance matrix of Valhalla: `POST /sources_to_targets`.
//!
//! Documented behaviour that this module relies on: 200 with `sources_to_targets`, a row for each source with an object
//! for each target, whose `time` is in seconds and `null` if there is no route; 400 if the request cannot be answered.

use dispatch_core::geo::Coordinate;
use serde::{Deserialize, Serialize};

use crate::adapters::eta::error::{RouterError, Row};

#[derive(Serialize)]
pub(super) struct MatrixRequest {
    sources: Vec<Place>,
    targets: [Place; 1],
    costing: &'static str,
}

#[derive(Serialize)]
struct Place {
    lat: f64,
    lon: f64,
}

impl From<Coordinate> for Place {
    fn from(place: Coordinate) -> Self {
        Self { lat: place.lat(), lon: place.lng() }
    }
}

#[derive(Deserialize)]
struct Matrix {
    sources_to_targets: Vec<Vec<Pair>>,
}

#[derive(Deserialize)]
struct Pair {
    time: Option<f64>,
}

/// The URL of the request.
pub(super) fn address(base: &str) -> String {
    format!("{base}/sources_to_targets")
}

/// The request body, for cars.
pub(super) fn request(from: &[Coordinate], to: Coordinate) -> MatrixRequest {
    MatrixRequest { sources: from.iter().map(|place| (*place).into()).collect(), targets: [to.into()], costing: "auto" }
}

/// Parses the response.
pub(super) fn rows(document: &[u8]) -> Result<Vec<Row>, RouterError> {
    let matrix: Matrix = serde_json::from_slice(document).map_err(|_| RouterError::Unreadable)?;
    Ok(matrix.sources_to_targets.into_iter().map(|row| row.into_iter().map(|pair| pair.time).collect()).collect())
}
