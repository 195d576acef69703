//! The OpenAPI 3.1 document. It is generated from the handlers; `runtime/openapi.json` is its committed copy.

use std::collections::BTreeMap;

use dispatch_http_types::{Notification, Problem, Scope};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, HeaderBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoParams, IntoResponses, Modify, OpenApi, openapi};

use super::problem::ApiError;
use crate::ports::PortError;

/// The parts of the document that belong to no single handler.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Coactus Dispatch",
        description = "Requests rides, offers them to drivers, and follows them until they are completed or cancelled. \
                       One deployment serves one city.\n\n\
                       **Formats.** Ids in bodies have a prefix (`driver#00001`). Ids in paths and queries need none \
                       (`/v1/drivers/00001`); with it, `#` is encoded (`/v1/drivers/driver%2300001`). Times are ISO 8601 in the city's time zone. Money is in whole units of \
                       the city's currency. Requests with unknown fields are rejected; responses may gain fields, so \
                       ignore fields that you do not know.\n\n\
                       **Errors.** Every error is a problem document (RFC 9457). Decide by the last part of its \
                       `type`, not by its texts. `field` names the field that is not valid. Quote the header \
                       `x-request-id` when you report an error: the logs contain it.\n\n\
                       **Retries.** After 429 and 503, wait for the seconds in `Retry-After` and send the request \
                       again. `GET` and `PUT` requests can be repeated at any time. `POST` requests that take an \
                       `Idempotency-Key` can be repeated with the same key.\n\n\
                       **Access.** What belongs to another caller is answered like what does not exist, with 404. 403 \
                       means that the token lacks the scope."
    ),
    tags(
        (name = "save-dispatch", description = "Dispatches of users, and the profiles of users"),
        (name = "driver-response", description = "Answers to offers, devices and event streams"),
        (name = "status-update", description = "Rides, positions, and the profiles and availability of drivers"),
    ),
    components(schemas(Problem, Notification)),
    modifiers(&Bearer),
)]
pub(crate) struct Frame;

/// The access token that every request needs.
struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("JWT")
            .description(Some(
                "An access token from the city's issuer, signed with RS256, ES256 or EdDSA. Each operation lists the \
                 scopes that it accepts; the token needs one of them. `user` and `driver` give access to the caller's \
                 own data, `payments` is for programs that report payments, `operations` is for the city's staff and \
                 programs. A token with one of the last two that names a city (claim `city`) is accepted in that city only.",
            ))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// The path parameter of a dispatch.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only describes what `extract::InPath` reads")]
pub(crate) struct DispatchPath {
    /// The id of the dispatch, with or without the prefix `dispatch#`.
    #[param(
        rename = "dispatchId",
        pattern = "^(dispatch#)?[A-Za-z0-9_-]{1,64}$",
        example = "01JW3Q4X5Y6Z7A8B9C0D1E2F3G"
    )]
    dispatch_id: String,
}

/// The path parameter of a user.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only describes what `extract::InPath` reads")]
pub(crate) struct UserPath {
    /// The id of the user, with or without the prefix `user#`.
    #[param(rename = "userId", pattern = "^(user#)?[A-Za-z0-9_-]{1,64}$", example = "00001")]
    user_id: String,
}

/// The path parameter of a driver.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only describes what `extract::InPath` reads")]
pub(crate) struct DriverPath {
    /// The id of the driver, with or without the prefix `driver#`.
    #[param(rename = "driverId", pattern = "^(driver#)?[A-Za-z0-9_-]{1,64}$", example = "00001")]
    driver_id: String,
}

/// The header that makes a request safe to repeat.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only describes what `extract::IdempotencyKey` reads")]
pub(crate) struct IdempotencyKeyHeader {
    /// A unique key for this request, chosen by the client, for example a UUID. Repeat it when you retry the request:
    /// the result of the first successful attempt is returned again, for at least 24 hours. Except for `POST
    /// /v1/dispatches`, such a response shows the dispatch as it was then and has the header `Idempotent-Replayed:
    /// true`.
    ///
    /// A key that is repeated with another body fails with 422 (`idempotency-key-reused`). While the first attempt is
    /// in progress, a retry may fail with 409 (`idempotency-key-in-use`): wait for the seconds in `Retry-After`.
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

/// The errors of every operation.
pub(crate) struct Refusals;

/// The errors of every operation that takes a body.
pub(crate) struct BodyRefusals;

/// The error for something that does not exist or is not the caller's.
pub(crate) struct Missing;

/// The error for something that the current state of a dispatch does not allow.
pub(crate) struct Conflict;

type Described = (String, RefOr<Response>);

/// A problem with its example: the document that is sent for this error.
fn problem(description: &str, example: ApiError) -> Described {
    let example = example.into_problem();
    let status = example.status.to_string();
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Problem")))
        .example(serde_json::to_value(&example).ok())
        .build();
    let request_id = HeaderBuilder::new().description(Some("The id of the request in the logs")).build();
    let response = ResponseBuilder::new()
        .description(description)
        .content("application/problem+json", content)
        .header("x-request-id", request_id);
    let response = if matches!(status.as_str(), "429" | "503") {
        let seconds = HeaderBuilder::new().description(Some("Seconds to wait before the next attempt")).build();
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
            problem("The request has no valid `Host`", ApiError::Host),
            problem("A field of the path, the query, the headers or the body is not valid; `field` names it", wrong),
            problem("The access token is missing or not valid", ApiError::Unauthenticated { given: true }),
            problem("The token has none of the scopes of this operation", ApiError::Forbidden { needs: Scope::Driver }),
            problem(
                "The caller or its address sends too many requests, or the user cancelled too often: retry after the \
                 seconds in `Retry-After`",
                ApiError::TooMany { after_s: 1 },
            ),
            problem(
                "An internal error; a retry does not help. Report it with the id in `x-request-id`",
                ApiError::Port(failed),
            ),
            problem("Temporarily unavailable: retry after the seconds in `Retry-After`", ApiError::Overloaded),
        ]
        .into()
    }
}

impl IntoResponses for BodyRefusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut responses = Refusals::responses();
        responses.extend([
            problem(
                "The body is not valid JSON or is incomplete, or the request has no valid `Host`",
                ApiError::MalformedJson,
            ),
            problem("The body did not arrive in time: send the request again", ApiError::SlowBody),
            problem("The body is too large", ApiError::TooLarge),
            problem("The `Content-Type` is not `application/json`", ApiError::MediaType),
        ]);
        responses
    }
}

impl IntoResponses for Missing {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let missing = ApiError::NotFound { what: "dispatch" };
        [problem("The user, driver or dispatch does not exist, or the caller may not access it", missing)].into()
    }
}

impl IntoResponses for Conflict {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let busy = ApiError::UserBusy { current: None };
        [problem(
            "The current state does not allow this; `current` is the dispatch in question, if the caller may read it",
            busy,
        )]
        .into()
    }
}
