//! All data of one person, for operations: erasure and export.

use std::fmt::Write as _;

use axum::Json;
use axum::extract::State;
use dispatch_core::ids::{DriverId, UserId};
use dispatch_core::person::PersonStatus;
use dispatch_http_types::{ErasureCounts, ErasureReceipt, ExportQuery, ExportedItem, ExportedKind, PersonExport};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::http::extract::{InPath, StrictQuery};
use crate::http::middleware::auth::AsOperations;
use crate::http::openapi::{Conflict, DriverPath, Refusals, UserPath};
use crate::http::problem::ApiError;
use crate::http::state::AppState;
use crate::ports::{Counts, DataKind, Erasure, PageErasure, Person, PersonPage, ProfileErasure};

/// Erase a user's data.
///
/// Removes the profile, the device, and places, addresses and texts from dispatches and histories. Fares and times stay
/// for accounting, under the id. A user who comes back creates a new profile.
///
/// One request erases a part. Repeat it until the receipt has `completedAt`; each request continues where the last one
/// ended, and repeating a completed erasure finds what is left, usually nothing. Exports in S3, backups of the table
/// and logs are not changed: they expire.
///
/// The call fails with 409 (`open-ride`) while the user is on a dispatch.
#[utoipa::path(
    post, path = "/v1/operations/users/{userId}/erase", tag = "driver-response", operation_id = "eraseUser",
    security(("bearer" = ["operations"])),
    params(UserPath),
    responses(
        (status = 200, description = "What was found and removed so far", body = ErasureReceipt),
        Conflict,
        Refusals,
    )
)]
pub(crate) async fn erase_user(
    State(app): State<AppState>,
    _: AsOperations,
    InPath(id): InPath<UserId>,
) -> Result<Json<ErasureReceipt>, ApiError> {
    erase(&app, &Person::User(id)).await
}

/// Erase a driver's data.
///
/// Removes the profile, the device, the positions in the cache, the routes of rides and the places in histories. Fares
/// and times stay for accounting, under the id. The addresses of rides belong to their users and stay.
///
/// One request erases a part. Repeat it until the receipt has `completedAt`; each request continues where the last one
/// ended, and repeating a completed erasure finds what is left, usually nothing. Exports in S3, backups of the table
/// and logs are not changed: they expire.
///
/// The call fails with 409 (`open-ride`) while the driver is on a dispatch.
#[utoipa::path(
    post, path = "/v1/operations/drivers/{driverId}/erase", tag = "driver-response", operation_id = "eraseDriver",
    security(("bearer" = ["operations"])),
    params(DriverPath),
    responses(
        (status = 200, description = "What was found and removed so far", body = ErasureReceipt),
        Conflict,
        Refusals,
    )
)]
pub(crate) async fn erase_driver(
    State(app): State<AppState>,
    _: AsOperations,
    InPath(id): InPath<DriverId>,
) -> Result<Json<ErasureReceipt>, ApiError> {
    erase(&app, &Person::Driver(id)).await
}

/// Export a user's data.
///
/// Returns everything that the table stores about a user, one page at a time: the profile, the history, the dispatches
/// and their recorded positions. A person without data has one empty page.
#[utoipa::path(
    get, path = "/v1/operations/users/{userId}/export", tag = "driver-response", operation_id = "exportUser",
    security(("bearer" = ["operations"])),
    params(UserPath, ExportQuery),
    responses((status = 200, description = "One page of items", body = PersonExport), Refusals)
)]
pub(crate) async fn export_user(
    State(app): State<AppState>,
    _: AsOperations,
    InPath(id): InPath<UserId>,
    StrictQuery(query): StrictQuery<ExportQuery>,
) -> Result<Json<PersonExport>, ApiError> {
    export(&app, &Person::User(id), query).await
}

/// Export a driver's data.
///
/// Returns everything that the table stores about a driver, one page at a time: the profile, the history of the status,
/// and the completed rides with their routes, without the places of their users. A person without data has one empty
/// page.
#[utoipa::path(
    get, path = "/v1/operations/drivers/{driverId}/export", tag = "driver-response", operation_id = "exportDriver",
    security(("bearer" = ["operations"])),
    params(DriverPath, ExportQuery),
    responses((status = 200, description = "One page of items", body = PersonExport), Refusals)
)]
pub(crate) async fn export_driver(
    State(app): State<AppState>,
    _: AsOperations,
    InPath(id): InPath<DriverId>,
    StrictQuery(query): StrictQuery<ExportQuery>,
) -> Result<Json<PersonExport>, ApiError> {
    export(&app, &Person::Driver(id), query).await
}

/// Erases the next part of a person's data. Every step can be repeated, and the progress is stored last.
async fn erase(app: &AppState, person: &Person) -> Result<Json<ErasureReceipt>, ApiError> {
    let (ports, store) = (&app.engine.ports, &app.persons);
    let (city, now) = (&app.engine.city, ports.clock.now());
    let begun = store.erasure(person).await?.filter(|erasure| erasure.completed_at.is_none());
    let mut erasure = begun.unwrap_or_else(|| Erasure {
        key: city.sort_time(now),
        started_at: city.timestamp(now),
        completed_at: None,
        found: Counts::new(),
        next: None,
    });
    if store.open_dispatch(person).await?.is_some() {
        return Err(ApiError::OpenRide);
    }
    // The endpoint is deleted while the profile still names it.
    if let Some(endpoint) = ports.profiles.device(person).await? {
        ports.devices.unregister(&endpoint, person).await?;
        count(&mut erasure.found, DataKind::Device, 1);
    }
    match store.erase_profile(person, now).await? {
        ProfileErasure::OnDispatch(_) => return Err(ApiError::OpenRide),
        ProfileErasure::Done { changed: false } => {}
        ProfileErasure::Done { changed: true } => {
            count(&mut erasure.found, DataKind::Profile, 1);
            // The next attempt would not find the profile, if what follows fails.
            store.keep_erasure(person, &erasure).await?;
        }
    }
    if let Person::Driver(driver) = person {
        // The feed of the status reaches the indexes of all processes before the entry is gone.
        ports.fleet.reservations.set_status(driver, PersonStatus::Inactive, None).await?;
        ports.fleet.positions.forget(std::slice::from_ref(driver), &[]).await?;
    }
    let page = match store.erase_page(person, erasure.next.as_deref(), now).await? {
        PageErasure::OpenDispatch(_) => return Err(ApiError::OpenRide),
        PageErasure::Done(page) => page,
    };
    ports.fleet.positions.forget(&[], &page.dispatches).await?;
    for (kind, found) in page.found {
        count(&mut erasure.found, kind, found);
    }
    erasure.completed_at = page.next.is_none().then(|| city.timestamp(now));
    erasure.next = page.next;
    store.keep_erasure(person, &erasure).await?;
    Ok(Json(receipt(person, &erasure)))
}

fn count(found: &mut Counts, kind: DataKind, more: u32) {
    let count = found.entry(kind).or_default();
    *count = count.saturating_add(more);
}

/// The fields of a receipt that its digest covers.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DigestInput<'a> {
    person_id: &'a str,
    started_at: &'a str,
    completed_at: Option<&'a str>,
    found: ErasureCounts,
}

fn receipt(person: &Person, erasure: &Erasure) -> ErasureReceipt {
    let of = |kind| erasure.found.get(&kind).copied().unwrap_or_default();
    let covered = DigestInput {
        person_id: person.as_str(),
        started_at: &erasure.started_at,
        completed_at: erasure.completed_at.as_deref(),
        found: ErasureCounts {
            profiles: of(DataKind::Profile),
            devices: of(DataKind::Device),
            dispatches: of(DataKind::Dispatch),
            routes: of(DataKind::Route),
            histories: of(DataKind::History),
            rides: of(DataKind::Ride),
            others: of(DataKind::Other),
        },
    };
    // Serializing texts and numbers cannot fail.
    let document = serde_json::to_vec(&covered).unwrap_or_default();
    let digest = Sha256::digest(document).iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    });
    ErasureReceipt {
        person_id: covered.person_id.to_owned(),
        started_at: covered.started_at.to_owned(),
        completed_at: erasure.completed_at.clone(),
        found: covered.found,
        digest,
    }
}

async fn export(app: &AppState, person: &Person, query: ExportQuery) -> Result<Json<PersonExport>, ApiError> {
    let after = query.after.as_deref();
    if after.is_some_and(|after| !app.persons.is_continuation(after)) {
        return Err(ApiError::field("after", "must be the value of `next` from the previous page"));
    }
    let PersonPage { items, next } = app.persons.export_page(person, after).await?;
    let items = items.into_iter().map(|(kind, data)| ExportedItem { kind: exported_kind(kind), data }).collect();
    Ok(Json(PersonExport { person_id: person.as_str().to_owned(), items, next }))
}

fn exported_kind(kind: DataKind) -> ExportedKind {
    match kind {
        DataKind::Profile => ExportedKind::Profile,
        DataKind::Dispatch => ExportedKind::Dispatch,
        DataKind::Route => ExportedKind::Route,
        DataKind::History => ExportedKind::History,
        DataKind::Ride => ExportedKind::Ride,
        DataKind::Device | DataKind::Other => ExportedKind::Other,
    }
}
