//! What a caller is shown of a dispatch. Handlers show a dispatch through this module only, so that every disclosure is
//! in the audit trail and a driver sees no more of a user than the city allows.

use dispatch_core::dispatch::DispatchStatus;
use dispatch_core::ids::{DispatchId, DriverId};
use dispatch_core::privacy::{Detail, RideView, district_of_address, rounded_degrees, without_phone_numbers};
use dispatch_http_types::{Dispatch, DriverProfile, Location};

use super::convert;
use super::middleware::auth::Caller;
use super::problem::ApiError;
use super::state::AppState;
use crate::city::parse_timestamp;
use crate::ports::{Driver, StoredDispatch};

/// The document of a dispatch for a caller who may read it.
pub(crate) fn dispatch(app: &AppState, caller: &Caller, stored: &StoredDispatch) -> Dispatch {
    note_other_parties(caller, stored);
    let document = convert::dispatch(stored);
    if caller.is_operations() || caller.is_user_of(stored) {
        return document;
    }
    with_detail(document, detail(app, stored, caller.is_driver_of(stored)))
}

/// A document that the caller has received before. How much of it is shown depends on the dispatch as it is now.
pub(crate) async fn earlier(app: &AppState, caller: &Caller, document: Dispatch) -> Result<Dispatch, ApiError> {
    caller.note(&document.dispatch_id);
    let is_user = caller.user().is_ok_and(|user| user.as_str() == document.user_id);
    if caller.is_operations() || is_user {
        return Ok(document);
    }
    let id = DispatchId::parse(&document.dispatch_id).map_err(|_| ApiError::NotFound { what: "dispatch" })?;
    let stored = app.engine.ports.dispatches.load(&id).await?;
    let detail = stored.map_or(Detail::District, |stored| detail(app, &stored, caller.is_driver_of(&stored)));
    Ok(with_detail(document, detail))
}

fn detail(app: &AppState, stored: &StoredDispatch, is_driver: bool) -> Detail {
    let changed_at = parse_timestamp(&stored.details.updated_at);
    let shown = RideView { status: stored.state.status, is_driver, changed_at };
    app.engine.city.settings().privacy.detail_for_driver(shown, app.engine.ports.clock.now())
}

/// A driver's own profile. The place where the last ride ended is that of its user, and becomes less exact like the
/// ride.
pub(crate) fn driver(app: &AppState, caller: &Caller, item: Driver) -> DriverProfile {
    let located_at = parse_timestamp(&item.current_status.located_at);
    let mut document = convert::driver(item);
    let shown = RideView { status: DispatchStatus::Completed, is_driver: true, changed_at: located_at };
    let privacy = app.engine.city.settings().privacy;
    let detail = privacy.detail_for_driver(shown, app.engine.ports.clock.now());
    if !caller.is_operations() && detail == Detail::District {
        let place = &mut document.current_status.current_location;
        (place.lat, place.lng) = (rounded_degrees(place.lat), rounded_degrees(place.lng));
        place.address = if place.address.is_empty() { String::new() } else { district_of_address(&place.address) };
    }
    document
}

fn with_detail(document: Dispatch, detail: Detail) -> Dispatch {
    match detail {
        Detail::Exact => document,
        Detail::District => shortened(document),
    }
}

/// The document without exact places, without the user, and without phone numbers in texts. Money, times and totals
/// stay.
fn shortened(mut document: Dispatch) -> Dispatch {
    document.user_id.clear();
    for place in [&mut document.pickup_location, &mut document.destination] {
        let Location { lat, lng, address } = place;
        (*lat, *lng) = (rounded_degrees(*lat), rounded_degrees(*lng));
        *address = district_of_address(address);
    }
    for point in &mut document.route {
        (point.lat, point.lng) = (rounded_degrees(point.lat), rounded_degrees(point.lng));
        // Distances between exact points would narrow the places down.
        point.distance_from_previous = None;
    }
    for event in &mut document.events {
        event.details = without_phone_numbers(&event.details);
    }
    document
}

/// Notes the parties of a dispatch who are not the caller.
fn note_other_parties(caller: &Caller, stored: &StoredDispatch) {
    let state = &stored.state;
    let user = (!caller.is_user_of(stored)).then(|| state.user.as_str());
    let driver = state.driver.as_ref().filter(|_| !caller.is_driver_of(stored)).map(DriverId::as_str);
    if user.is_none() && driver.is_none() {
        return;
    }
    caller.note(state.id.as_str());
    for party in [user, driver].into_iter().flatten() {
        caller.note(party);
    }
}
