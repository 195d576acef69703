//! A small HTTP server that answers as documented by OSRM (`docs/http.md`) and Valhalla (matrix API reference), over
//! roads that are straight lines; and the wrong answers of broken servers and proxies.

use parking_lot::Mutex;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use dispatch_core::geo::Coordinate;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Metres per second.
const SPEED: f64 = 7.0;

/// A place without roads.
pub(super) fn sea() -> Coordinate {
    Coordinate::new(37.0, 125.0).unwrap()
}

/// How the server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behaviour {
    Answers,
    /// A status, with a text that repeats the request.
    Status(u16),
    /// A redirect to a valid answer.
    Redirect,
    /// 200, and a document that reports a failure.
    NotOk,
    /// 200, and a body that is not JSON.
    Text,
    FewerRows,
    MoreColumns,
    /// A body above the size limit.
    Huge,
    /// Closes the connection in the middle of the body.
    BreaksOff,
    /// Negative and infinite times.
    Absurd,
    /// Never answers.
    Silent,
}

struct Shared {
    behaviour: Mutex<Behaviour>,
    asked: Mutex<usize>,
}

/// The server; it stops with the test.
pub(super) struct RoadServer {
    address: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for RoadServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl RoadServer {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared { behaviour: Mutex::new(Behaviour::Answers), asked: Mutex::new(0) });
        let roads = Router::new()
            .route("/table/v1/driving/{places}", get(osrm))
            .route("/sources_to_targets", post(valhalla))
            .with_state(Arc::clone(&shared));
        let app = Router::new().nest("/roads/seoul", roads.clone()).merge(roads);
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, shared, task }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn behave(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock() = behaviour;
    }

    /// Requests so far.
    pub(super) fn asked(&self) -> usize {
        *self.shared.asked.lock()
    }
}

/// Seconds from each source; `null` from the sea.
fn times(sources: &[Coordinate], target: Coordinate) -> Vec<Option<f64>> {
    sources
        .iter()
        .map(|from| (*from != sea()).then(|| (from.distance_to(target).0 / SPEED * 10.0).round() / 10.0))
        .collect()
}

#[derive(Deserialize)]
struct Asked {
    sources: String,
    destinations: String,
    annotations: String,
}

async fn osrm(State(shared): State<Arc<Shared>>, Path(places): Path<String>, Query(asked): Query<Asked>) -> Response {
    given(table(&shared, &places, &asked)).await
}

fn table(shared: &Shared, places: &str, asked: &Asked) -> Option<Response> {
    assert_eq!(asked.annotations, "duration");
    let places: Vec<Coordinate> = places
        .split(';')
        .map(|place| {
            let (lng, lat) = place.split_once(',').unwrap();
            Coordinate::new(lat.parse().unwrap(), lng.parse().unwrap()).unwrap()
        })
        .collect();
    let index = |text: &str| -> Coordinate { places[text.parse::<usize>().unwrap()] };
    let sources: Vec<Coordinate> = asked.sources.split(';').map(index).collect();
    let target = index(&asked.destinations);
    let waypoint = |place: &Coordinate| json!({ "name": "", "location": [place.lng(), place.lat()], "distance": 1.5 });
    let document = |rows: Vec<Vec<Option<f64>>>| {
        json!({
            "code": "Ok",
            "durations": rows,
            "sources": sources.iter().map(waypoint).collect::<Vec<_>>(),
            "destinations": [waypoint(&target)],
        })
    };
    let refused = json!({ "code": "NoSegment", "message": format!("{} is far from every street", target.lat()) });
    shared.answer(&times(&sources, target), &document, &refused)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Matrix {
    sources: Vec<Place>,
    targets: Vec<Place>,
    costing: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    lat: f64,
    lon: f64,
}

async fn valhalla(State(shared): State<Arc<Shared>>, body: String) -> Response {
    given(matrix(&shared, &body)).await
}

fn matrix(shared: &Shared, body: &str) -> Option<Response> {
    let Matrix { sources, targets, costing } = serde_json::from_str(body).unwrap();
    assert_eq!((costing.as_str(), targets.len()), ("auto", 1));
    let place = |place: &Place| Coordinate::new(place.lat, place.lon).unwrap();
    let (sources, target): (Vec<Coordinate>, _) = (sources.iter().map(place).collect(), place(&targets[0]));
    let pair = |from: usize, to: usize, time: Option<f64>| {
        let distance = time.map(|time| time * SPEED / 1000.0);
        json!({ "from_index": from, "to_index": to, "time": time, "distance": distance })
    };
    let document = |rows: Vec<Vec<Option<f64>>>| {
        let rows = rows.into_iter().enumerate();
        let rows: Vec<Vec<Value>> = rows
            .map(|(from, row)| row.into_iter().enumerate().map(|(to, time)| pair(from, to, time)).collect())
            .collect();
        json!({ "sources_to_targets": rows, "units": "kilometers" })
    };
    let refused = json!({
        "error_code": 171, "error": format!("No suitable edges near {}", target.lat()), "status_code": 400, "status": "Bad Request",
    });
    shared.answer(&times(&sources, target), &document, &refused)
}

/// The answer; with `None` it never returns.
async fn given(answer: Option<Response>) -> Response {
    match answer {
        Some(answer) => answer,
        None => std::future::pending().await,
    }
}

impl Shared {
    fn answer(
        &self,
        times: &[Option<f64>],
        document: &dyn Fn(Vec<Vec<Option<f64>>>) -> Value,
        refused: &Value,
    ) -> Option<Response> {
        *self.asked.lock() += 1;
        let behaviour = *self.behaviour.lock();
        let rows: Vec<Vec<Option<f64>>> = times.iter().map(|time| vec![*time]).collect();
        let json =
            |document: Value| ([(header::CONTENT_TYPE, "application/json")], document.to_string()).into_response();
        Some(match behaviour {
            Behaviour::Answers => json(document(rows)),
            Behaviour::Status(status) => (StatusCode::from_u16(status).unwrap(), refused.to_string()).into_response(),
            Behaviour::Redirect => {
                (StatusCode::FOUND, [(header::LOCATION, "/roads/seoul/sources_to_targets")]).into_response()
            }
            Behaviour::NotOk => json(refused.clone()),
            Behaviour::Text => "<html>no such thing at 37.5662,126.9784</html>".into_response(),
            Behaviour::FewerRows => json(document(rows[1..].to_vec())),
            Behaviour::MoreColumns => {
                json(document(rows.iter().map(|row| [row.clone(), row.clone()].concat()).collect()))
            }
            Behaviour::Huge => json(json!({ "padding": "x".repeat(100_000), "document": document(rows) })),
            Behaviour::BreaksOff => {
                let parts = [Ok("{\"code\": \"Ok\","), Err(std::io::Error::other("the server dies"))];
                Body::from_stream(futures::stream::iter(parts)).into_response()
            }
            Behaviour::Absurd => {
                let absurd = |place: usize| Some(if place == 0 { -5.0 } else { 1e12 });
                json(document((0..rows.len()).map(|place| vec![absurd(place)]).collect()))
            }
            Behaviour::Silent => return None,
        })
    }
}
