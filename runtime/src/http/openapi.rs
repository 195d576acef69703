//! The OpenAPI 3.1 document. It is made from the handlers; `runtime/openapi.json` is its committed copy.

use std::collections::BTreeMap;

use dispatch_http_types::{Notification, Problem, Scope};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, HeaderBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoParams, IntoResponses, Modify, OpenApi, openapi};

use super::problem::ApiError;
use crate::ports::PortError;

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
    modifiers(&Bearer),
)]
pub struct Frame;

/// The token every request needs.
struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("JWT")
            .description(Some(
                "A token of the city's issuer (RS256, ES256 or EdDSA). Each operation names the scopes of which it takes one: \
                 `user` and `driver` for what is the caller's own, `operations` for the city's staff and programs. What is \
                 somebody else's is not found.",
            ))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// The path of a dispatch.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only describes what `extract::InPath` reads")]
pub struct DispatchPath {
    /// Id without `dispatch#`.
    #[param(rename = "dispatchId", pattern = "^[A-Za-z0-9_-]{1,64}$", example = "01JW3Q4X5Y6Z7A8B9C0D1E2F3G")]
    dispatch_id: String,
}

/// The path of a user.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only describes what `extract::InPath` reads")]
pub struct UserPath {
    /// Id without `user#`.
    #[param(rename = "userId", pattern = "^[A-Za-z0-9_-]{1,64}$", example = "00001")]
    user_id: String,
}

/// The path of a driver.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only describes what `extract::InPath` reads")]
pub struct DriverPath {
    /// Id without `driver#`.
    #[param(rename = "driverId", pattern = "^[A-Za-z0-9_-]{1,64}$", example = "00001")]
    driver_id: String,
}

/// The header of a request that may be repeated.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only describes what `extract::IdempotencyKey` reads")]
pub struct IdempotencyKeyHeader {
    /// Identity of the request, made by the client: visible ASCII characters.
    #[param(
        rename = "Idempotency-Key",
        required = false,
        min_length = 1,
        max_length = 255,
        pattern = "^[!-~]+$",
        example = "8e03978e-40d5-43e8-bc93-6894a57f9324"
    )]
    idempotency_key: String,
}

/// What can go wrong everywhere.
pub struct Refusals;

/// What can go wrong where a body is sent.
pub struct BodyRefusals;

/// What is asked for is not there, or not the caller's.
pub struct Missing;

/// What is asked for does not fit the dispatch as it is.
pub struct Conflict;

type Described = (String, RefOr<Response>);

/// A problem with its example, which is the very document the error becomes.
fn problem(description: &str, example: ApiError) -> Described {
    let example = example.into_problem();
    let status = example.status.to_string();
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Problem")))
        .example(serde_json::to_value(&example).ok())
        .build();
    let request_id = HeaderBuilder::new().description(Some("Id of the request, as it stands in the logs")).build();
    let response = ResponseBuilder::new()
        .description(description)
        .content("application/problem+json", content)
        .header("x-request-id", request_id);
    let response = if matches!(status.as_str(), "429" | "503") {
        let seconds = HeaderBuilder::new().description(Some("Seconds after which to try again")).build();
        response.header("Retry-After", seconds)
    } else {
        response
    };
    (status, RefOr::T(response.build()))
}

impl IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let wrong = ApiError::field("pickupLocation.lat", "lat must be a number from -90 to 90");
        let failed = PortError::Failed { action: "reading a dispatch", source: "unreadable".into() };
        [
            problem("A field of the path, the query, the headers or the body is not valid; `field` names it", wrong),
            problem("No token, or one that is not valid", ApiError::Unauthenticated { given: true }),
            problem("The token has none of the scopes of this operation", ApiError::Forbidden { needs: Scope::Driver }),
            problem(
                "The caller asks more than its share: try again after `Retry-After`",
                ApiError::TooMany { after_s: 1 },
            ),
            problem("The request could not be served; repeating it will not help", ApiError::Port(failed)),
            problem("Not possible right now: try again after `Retry-After`", ApiError::Overloaded),
        ]
        .into()
    }
}

impl IntoResponses for BodyRefusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut responses = Refusals::responses();
        responses.extend([
            problem("The body is not JSON", ApiError::MalformedJson),
            problem("The body did not come in time", ApiError::SlowBody),
            problem("The body is too large", ApiError::TooLarge),
            problem("The body is not said to be `application/json`", ApiError::MediaType),
        ]);
        responses
    }
}

impl IntoResponses for Missing {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let missing = ApiError::NotFound { what: "dispatch" };
        [problem("There is no such user, driver or dispatch, or it is somebody else's", missing)].into()
    }
}

impl IntoResponses for Conflict {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let busy = ApiError::UserBusy { current: None };
        [problem("Not possible now; `current` is the dispatch that stands in the way, as it is", busy)].into()
    }
}
