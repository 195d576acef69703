//! The table service of OSRM (`osrm-routed`, API v1): `GET /table/v1/{profile}/{lng},{lat};…?sources=…&destinations=…`.
//!
//! Documented behaviour that this module relies on: 200 with `code` `Ok` and `durations`, a row for each source with
//! seconds for each destination, `null` if there is no route; 400 with another `code` if the request cannot be
//! answered, for example `NoSegment` for a place far from every road. The profile in the path is that of the server's
//! data, whatever its name.

use std::fmt::Write as _;

use dispatch_core::geo::Coordinate;
use serde::Deserialize;

use crate::adapters::eta::error::{RouterError, Row};

#[derive(Deserialize)]
struct Table {
    code: String,
    durations: Option<Vec<Vec<Option<f64>>>>,
}

/// The URL of the request. Six digits are a tenth of a metre.
pub(super) fn address(base: &str, from: &[Coordinate], to: Coordinate) -> String {
    let mut address = format!("{base}/table/v1/driving/");
    for place in from {
        // Writing to a `String` cannot fail.
        let _ = write!(address, "{:.6},{:.6};", place.lng(), place.lat());
    }
    let sources: Vec<String> = (0..from.len()).map(|source| source.to_string()).collect();
    let _ = write!(
        address,
        "{:.6},{:.6}?sources={}&destinations={}&annotations=duration&generate_hints=false",
        to.lng(),
        to.lat(),
        sources.join(";"),
        from.len()
    );
    address
}

/// Parses the response.
pub(super) fn rows(document: &[u8]) -> Result<Vec<Row>, RouterError> {
    let table: Table = serde_json::from_slice(document).map_err(|_| RouterError::Unreadable)?;
    match table.durations {
        Some(durations) if table.code == "Ok" => Ok(durations),
        _ => Err(RouterError::Unreadable),
    }
}
