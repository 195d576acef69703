//! The OpenAPI 3.1 document. It is made from the handlers; `runtime/openapi.json` is its committed copy.

use std::collections::BTreeMap;

use utoipa::openapi::{ContentBuilder, HeaderBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, OpenApi};

use super::dto::Problem;
use crate::port::Notification;

/// The frame of the document: what no handler says.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Coactus Dispatch",
        description = "Requests rides, offers them to drivers and follows them to their end. Ids in paths and queries are \
                       written without their prefix (`/v1/drivers/00001`), ids in bodies with it (`driver#00001`). Times \
                       are ISO 8601 in the city's time, money is in whole units of the city's currency."
    ),
    tags(
        (name = "save-dispatch", description = "Requests of users, and their profiles"),
        (name = "driver-response", description = "Answers of drivers, devices and event streams"),
        (name = "status-update", description = "Trips, positions and drivers"),
    ),
    components(schemas(Problem, Notification)),
)]
pub struct Frame;

/// What can go wrong everywhere.
pub struct Refusals;

/// What can go wrong where a body is sent.
pub struct BodyRefusals;

fn problem(description: &str) -> RefOr<Response> {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let request_id = HeaderBuilder::new().description(Some("Id of the request, as it stands in the logs")).build();
    RefOr::T(
        ResponseBuilder::new()
            .description(description)
            .content("application/problem+json", content)
            .header("x-request-id", request_id)
            .build(),
    )
}

impl IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        [
            ("422", "A field of the path, the query, the headers or the body is not valid; `field` names it"),
            ("500", "The request could not be served; repeating it will not help"),
            ("503", "Not possible right now: try again after `Retry-After`"),
        ]
        .map(|(status, description)| (status.to_owned(), problem(description)))
        .into()
    }
}

impl IntoResponses for BodyRefusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut responses = Refusals::responses();
        responses.extend(
            [
                ("400", "The body is not JSON"),
                ("413", "The body is too large"),
                ("415", "The body is not said to be `application/json`"),
            ]
            .map(|(status, description)| (status.to_owned(), problem(description))),
        );
        responses
    }
}
