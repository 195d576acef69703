//! Event streams, for apps without push notifications.

use std::convert::Infallible;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderName;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use dispatch_core::ids::{DriverId, UserId};
use dispatch_http_types::{EventsQuery, Notification};
use futures::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use crate::http::convert::wire_name;
use crate::http::extract::{PathId as _, StrictQuery};
use crate::http::middleware::auth::Caller;
use crate::http::middleware::request::{ClientNetwork, refused};
use crate::http::openapi::{Missing, Refusals};
use crate::http::problem::ApiError;
use crate::http::state::AppState;
use crate::ports::Person;

/// Time between two heartbeats: a quarter of the 60 s default idle timeout of an AWS load balancer.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Header with which a response asks nginx not to buffer it.
const UNBUFFERED: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Listen to the caller's notifications.
///
/// Streams the notifications of one user or driver as server-sent events: `event` is the kind of the notification, `id`
/// its id, and `data` the notification as JSON. A comment every 15 seconds keeps the connection open.
///
/// The stream ends when the access token expires, when the worker shuts down, and after 30 seconds behind an API
/// Gateway. It also ends for a client that does not read fast enough. A person can have five streams; a sixth one ends
/// the oldest. Reconnect whenever a stream ends. Notifications are not
/// replayed: after connecting, read the dispatch to learn what happened in between. A notification may be delivered
/// more than once; ignore an `id` that you have already seen.
///
/// The call fails with 404 if the recipient is not the caller.
#[utoipa::path(
    get, path = "/v1/events", tag = "driver-response", operation_id = "streamEvents",
    security(("bearer" = ["user"]), ("bearer" = ["driver"])),
    params(EventsQuery),
    responses(
        (status = 200, description = "The stream of events; each `data` is a Notification", body = String,
            content_type = "text/event-stream",
            example = "event: OFFER\nid: dispatch#00001:1:OFFER\ndata: {\"id\":\"dispatch#00001:1:OFFER\",\"recipient\":\"driver#00001\",\"kind\":\"OFFER\",\"body\":{\"message\":\"새로운 배차 요청이 있습니다\",\"dispatchId\":\"dispatch#00001\",\"pickupAddress\":\"서울시 중구 명동\",\"destinationAddress\":\"서울시 종로구 종로\",\"estimatedFare\":12000,\"estimatedDistance\":\"2.5km\",\"offerSeq\":1}}\n\n"),
        Missing,
        Refusals,
    )
)]
pub(crate) async fn stream(
    State(app): State<AppState>,
    caller: Caller,
    network: Option<Extension<ClientNetwork>>,
    StrictQuery(query): StrictQuery<EventsQuery>,
) -> Result<impl IntoResponse, ApiError> {
    let person = person(&query)?;
    caller.must_be(&person)?;
    let network = network.map(|Extension(ClientNetwork(network))| network);
    let place = app.stream_places.take(&person, network).map_err(|exceeded| refused(&app, exceeded))?;
    let notifications = app.engine.ports.streams.listen(&person).await?;
    // A stream must not outlive the token that opened it.
    let token_ends = tokio::time::sleep(caller.good_for(app.engine.ports.clock.now()));
    let events = ReceiverStream::new(notifications)
        .filter_map(|notification| std::future::ready(event(&notification)))
        .take_until(app.shutdown.clone().cancelled_owned())
        .take_until(token_ends)
        .take_until(place.ended().cancelled_owned())
        .map(move |event| {
            // The stream keeps its place until it ends.
            let _ = &place;
            Ok::<_, Infallible>(event)
        });
    let stream = Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT));
    Ok(([(UNBUFFERED, "no")], stream))
}

fn person(query: &EventsQuery) -> Result<Person, ApiError> {
    match (&query.driver, &query.user) {
        (Some(driver), None) => DriverId::read("driver", driver).map(Person::Driver),
        (None, Some(user)) => UserId::read("user", user).map(Person::User),
        _ => Err(ApiError::field("driver", "set exactly one of driver and user: the recipient of the notifications")),
    }
}

/// `None` if the notification cannot be written as an event, which no valid notification causes.
fn event(notification: &Notification) -> Option<Event> {
    // A field of an event is one line: axum panics on line feeds in an id.
    let id = notification.id.replace(['\n', '\r', '\0'], "");
    Event::default().event(wire_name(&notification.kind)).id(id).json_data(notification).ok()
}
