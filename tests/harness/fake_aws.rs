//! A minimal fake of AWS for tests with many systems: stacks whose operations take time, and the other services the
//! operator reads.
//!
//! Each call is recorded with its time. Stacks store only what the operator reads: their tags, their outputs, and the
//! settings of table and queues from their template. Tests that need more use `ministack`.

mod queries;
mod stacks;

use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use stacks::Stacks;

/// Account id.
pub const ACCOUNT: &str = "000000000000";

/// How stack operations behave.
#[derive(Clone, Copy, Debug)]
pub struct Behaviour {
    /// Duration of an operation.
    pub operation: Duration,
    /// The creation of stacks whose name contains this text fails.
    pub failing: &'static str,
}

/// A recorded call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Time of arrival.
    pub at: Instant,
    /// Name of the AWS operation.
    pub operation: String,
}

impl Recorded {
    /// Whether it can change something.
    pub fn changes(&self) -> bool {
        !["Describe", "Detect", "Get", "List"].iter().any(|verb| self.operation.starts_with(verb))
    }
}

/// The running fake, stopped on drop.
pub struct FakeAws {
    url: String,
    world: Arc<World>,
    serving: JoinHandle<()>,
}

struct World {
    calls: Mutex<Vec<Recorded>>,
    stacks: Mutex<Stacks>,
}

impl FakeAws {
    /// Starts it on a free port.
    pub async fn start(behaviour: Behaviour) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let world = Arc::new(World { calls: Mutex::default(), stacks: Mutex::new(Stacks::new(behaviour)) });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&world));
        let serving = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                println!("the fake AWS failed: {error}");
            }
        });
        Ok(Self { url, world, serving })
    }

    /// Endpoint of every service.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Calls since the last call of this function, in order.
    pub fn take_calls(&self) -> Vec<Recorded> {
        std::mem::take(&mut self.world.calls.lock())
    }

    /// Maximum number of concurrent operations so far.
    pub fn most_operations(&self) -> usize {
        self.world.stacks.lock().most_operations()
    }
}

impl Drop for FakeAws {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(
    State(world): State<Arc<World>>,
    (method, uri): (Method, Uri),
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok());
    let (operation, request) = match target.and_then(|target| target.split_once('.')) {
        Some((_, operation)) => {
            (operation.to_owned(), Request::Json(serde_json::from_slice(&body).unwrap_or_default()))
        }
        None if method == Method::POST => {
            let fields = queries::fields(&body);
            (fields.get("Action").cloned().unwrap_or_default(), Request::Query(fields))
        }
        // Of S3, only the tags of buckets are read.
        None => ("GetBucketTagging".to_owned(), Request::Bucket(uri.path().trim_matches('/').to_owned())),
    };
    world.calls.lock().push(Recorded { at: Instant::now(), operation: operation.clone() });
    let mut stacks = world.stacks.lock();
    match request {
        Request::Json(request) => json_answer(&mut stacks, &operation, &request),
        Request::Query(fields) => match queries::answer(&mut stacks, &operation, &fields) {
            Ok(result) => {
                let text = format!(
                    "<{operation}Response><{operation}Result>{result}</{operation}Result></{operation}Response>"
                );
                (StatusCode::OK, text).into_response()
            }
            Err((status, code, message)) => {
                let text = format!(
                    "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
                );
                (status, text).into_response()
            }
        },
        Request::Bucket(name) if stacks.has_bucket(&name) => {
            (StatusCode::OK, "<Tagging><TagSet></TagSet></Tagging>").into_response()
        }
        Request::Bucket(_) => {
            (StatusCode::NOT_FOUND, "<Error><Code>NoSuchBucket</Code><Message>no</Message></Error>").into_response()
        }
    }
}

enum Request {
    Json(Value),
    Query(queries::Fields),
    Bucket(String),
}

/// Answers the JSON protocols: DynamoDB and SQS.
fn json_answer(stacks: &mut Stacks, operation: &str, request: &Value) -> Response {
    let found = match operation {
        "DescribeTable" => stacks.table(text(request, "TableName")).map(|table| json!({ "Table": table })),
        "DescribeContinuousBackups" => stacks.table(text(request, "TableName")).map(|_| {
            json!({ "ContinuousBackupsDescription": {
                "ContinuousBackupsStatus": "ENABLED",
                "PointInTimeRecoveryDescription": { "PointInTimeRecoveryStatus": "ENABLED" },
            } })
        }),
        "DescribeTimeToLive" => stacks.table(text(request, "TableName")).map(
            |_| json!({ "TimeToLiveDescription": { "TimeToLiveStatus": "ENABLED", "AttributeName": "expiresAt" } }),
        ),
        "GetQueueAttributes" => {
            stacks.queue(text(request, "QueueUrl")).map(|attributes| json!({ "Attributes": attributes }))
        }
        _ => None,
    };
    let content = [("content-type", "application/x-amz-json-1.0")];
    if let Some(answer) = found {
        return (StatusCode::OK, content, answer.to_string()).into_response();
    }
    let error = json!({ "__type": "com.amazonaws.dynamodb.v20120810#ResourceNotFoundException", "message": "no" });
    (StatusCode::BAD_REQUEST, content, error.to_string()).into_response()
}

fn text<'a>(request: &'a Value, field: &str) -> &'a str {
    request[field].as_str().unwrap_or_default()
}
