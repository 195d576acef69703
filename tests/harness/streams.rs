//! A scripted fake of DynamoDB Streams. It does what the emulators cannot: split and rotate shards, list them late,
//! trim them, repeat records, expire iterators, throttle, disable a stream and enable another. What both can do is
//! verified by a common conformance test.
//!
//! Records are in DynamoDB's JSON format; see [`dispatch_record`].

use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Records per response: few, so that a shard takes several reads.
const RECORDS_MAX: usize = 50;

/// A running server, stopped on drop.
pub struct FakeStreams {
    script: Arc<Mutex<Script>>,
    endpoint: String,
    server: JoinHandle<()>,
}

#[derive(Default)]
struct Script {
    streams: BTreeMap<String, Stream>,
    sequence: u64,
    /// Generation of valid iterators; older ones have expired.
    generation: u64,
    page: Option<usize>,
    repeat: usize,
    failures: Vec<(String, String)>,
    calls: BTreeMap<String, usize>,
}

#[derive(Default)]
struct Stream {
    disabled: bool,
    shards: Vec<Shard>,
}

struct Shard {
    id: String,
    parent: Option<String>,
    records: Vec<Value>,
    trimmed: usize,
    closed: bool,
    hidden: bool,
}

impl Drop for FakeStreams {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl FakeStreams {
    /// Starts a server without streams.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let script = Arc::new(Mutex::new(Script { repeat: 1, ..Script::default() }));
        let router = Router::new().fallback(answer).with_state(Arc::clone(&script));
        let server = tokio::spawn(async move {
            // The server ends with the test; there is nowhere to report a failure.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { script, endpoint, server })
    }

    /// Endpoint of the server.
    pub fn endpoint(&self) -> String {
        self.endpoint.clone()
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock()
    }

    fn with_shard<T>(&self, shard: &str, change: impl FnOnce(&mut Shard) -> T) -> T {
        let mut script = self.script();
        let found = script.streams.values_mut().flat_map(|stream| &mut stream.shards).find(|found| found.id == shard);
        change(found.unwrap_or_else(|| unknown(shard)))
    }

    /// Adds a stream of the table `dispatch`, enabled at `label`, with these shards, and returns its ARN. Shard ids
    /// must be unique across all streams.
    pub fn open_stream(&self, label: &str, shards: &[&str]) -> String {
        let arn = format!("arn:aws:dynamodb:ap-northeast-2:000000000000:table/dispatch/stream/{label}");
        let shards = shards.iter().map(|id| Shard::new(id, None)).collect();
        self.script().streams.insert(arn.clone(), Stream { disabled: false, shards });
        arn
    }

    /// Disables a stream: its shards are closed but stay readable.
    pub fn disable(&self, arn: &str) {
        let mut script = self.script();
        let Some(stream) = script.streams.get_mut(arn) else { return };
        stream.disabled = true;
        stream.shards.iter_mut().for_each(|shard| shard.closed = true);
    }

    /// Appends a record to a shard and returns its sequence number.
    pub fn append(&self, shard: &str, mut record: Value) -> String {
        let mut script = self.script();
        script.sequence += 1;
        let number = format!("{:021}", script.sequence);
        record["dynamodb"]["SequenceNumber"] = json!(number);
        let shards = script.streams.values_mut().flat_map(|stream| &mut stream.shards);
        shards.into_iter().find(|found| found.id == shard).unwrap_or_else(|| unknown(shard)).records.push(record);
        number
    }

    /// Closes a shard and lists `children` as its successors.
    pub fn split(&self, shard: &str, children: &[&str]) {
        self.add_children(shard, children);
        self.with_shard(shard, |shard| shard.closed = true);
    }

    /// Lists children of a shard that is still open, as DynamoDB does for a moment.
    pub fn add_children(&self, shard: &str, children: &[&str]) {
        let mut script = self.script();
        let stream = script.streams.values_mut().find(|stream| stream.shards.iter().any(|found| found.id == shard));
        let Some(stream) = stream else { unknown(shard) };
        stream.shards.extend(children.iter().map(|id| Shard::new(id, Some(shard))));
    }

    /// Hides a shard from the list, or shows it again.
    pub fn set_hidden(&self, shard: &str, is: Hidden) {
        self.with_shard(shard, |shard| shard.hidden = is == Hidden::Yes);
    }

    /// Removes a shard with its records, as happens 24 hours after it was closed.
    pub fn remove(&self, shard: &str) {
        for stream in self.script().streams.values_mut() {
            stream.shards.retain(|found| found.id != shard);
        }
    }

    /// Trims a shard to its last `keep` records.
    pub fn trim(&self, shard: &str, keep: usize) {
        self.with_shard(shard, |shard| shard.trimmed = shard.records.len().saturating_sub(keep));
    }

    /// Expires all iterators returned so far.
    pub fn expire_iterators(&self) {
        self.script().generation += 1;
    }

    /// Fails the next `times` calls of an operation with this error code.
    pub fn fail(&self, operation: &str, code: &str, times: usize) {
        let failures = std::iter::repeat_n((operation.to_owned(), code.to_owned()), times);
        self.script().failures.extend(failures);
    }

    /// Removes the remaining failures of an operation.
    pub fn recover(&self, operation: &str) {
        self.script().failures.retain(|(failing, _)| failing != operation);
    }

    /// Sets the number of shards per page.
    pub fn set_page(&self, shards: usize) {
        self.script().page = Some(shards);
    }

    /// Returns each record `times` times in succession.
    pub fn set_repeat(&self, times: usize) {
        self.script().repeat = times;
    }

    /// Calls of an operation so far.
    pub fn calls(&self, operation: &str) -> usize {
        self.script().calls.get(operation).copied().unwrap_or_default()
    }
}

/// Whether a shard is hidden from the list.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Hidden {
    /// The shard is not listed.
    Yes,
    /// The shard is listed.
    No,
}

#[expect(clippy::panic, reason = "a script that names an unknown shard is a broken test")]
fn unknown(shard: &str) -> ! {
    panic!("the script has no shard {shard}")
}

impl Shard {
    fn new(id: &str, parent: Option<&str>) -> Self {
        let parent = parent.map(str::to_owned);
        Self { id: id.to_owned(), parent, records: Vec::new(), trimmed: 0, closed: false, hidden: false }
    }
}

async fn answer(State(script): State<Arc<Mutex<Script>>>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut script = script.lock();
    *script.calls.entry(operation.clone()).or_insert(0) += 1;
    let failure = script.failures.iter().position(|(failing, _)| *failing == operation);
    let result = match failure.map(|index| script.failures.remove(index)) {
        Some((_, code)) => Err(code),
        None => script.carry_out(&operation, &request).map_err(str::to_owned),
    };
    let (status, body) = match result {
        Ok(body) => (StatusCode::OK, body),
        Err(code) => {
            let kind = format!("com.amazonaws.dynamodb.v20120810#{code}");
            (StatusCode::BAD_REQUEST, json!({ "__type": kind, "message": "as the script says" }))
        }
    };
    (status, [(header::CONTENT_TYPE, "application/x-amz-json-1.0")], body.to_string()).into_response()
}

const NOT_FOUND: &str = "ResourceNotFoundException";
const TRIMMED: &str = "TrimmedDataAccessException";
const INVALID: &str = "ValidationException";

impl Script {
    fn carry_out(&self, operation: &str, request: &Value) -> Result<Value, &'static str> {
        match operation {
            "DescribeStream" => self.describe(request),
            "GetShardIterator" => self.iterator(request),
            "GetRecords" => self.records(request),
            _ => Err("UnknownOperationException"),
        }
    }

    fn stream(&self, arn: &str) -> Result<&Stream, &'static str> {
        self.streams.get(arn).ok_or(NOT_FOUND)
    }

    fn shard(&self, arn: &str, id: &str) -> Result<&Shard, &'static str> {
        self.stream(arn)?.shards.iter().find(|shard| shard.id == id).ok_or(NOT_FOUND)
    }

    fn describe(&self, request: &Value) -> Result<Value, &'static str> {
        let arn = text(request, "StreamArn");
        let stream = self.stream(arn)?;
        let listed: Vec<&Shard> = stream.shards.iter().filter(|shard| !shard.hidden).collect();
        let after = request["ExclusiveStartShardId"].as_str();
        let from = after.and_then(|id| listed.iter().position(|shard| shard.id == id)).map_or(0, |index| index + 1);
        let page = &listed[from..listed.len().min(from + self.page.unwrap_or(100))];
        let more = from + page.len() < listed.len();
        Ok(json!({ "StreamDescription": {
            "StreamArn": arn,
            "StreamLabel": arn.rsplit('/').next(),
            "StreamStatus": if stream.disabled { "DISABLED" } else { "ENABLED" },
            "StreamViewType": "NEW_AND_OLD_IMAGES",
            "TableName": "dispatch",
            "KeySchema": [],
            "Shards": page.iter().map(|shard| shard.described()).collect::<Vec<_>>(),
            "LastEvaluatedShardId": page.last().filter(|_| more).map(|shard| &shard.id),
        }}))
    }

    fn iterator(&self, request: &Value) -> Result<Value, &'static str> {
        let (arn, id) = (text(request, "StreamArn"), text(request, "ShardId"));
        let shard = self.shard(arn, id)?;
        let sequence = text(request, "SequenceNumber");
        let place = || shard.records.iter().position(|record| record["dynamodb"]["SequenceNumber"] == sequence);
        let position = match text(request, "ShardIteratorType") {
            "TRIM_HORIZON" => shard.trimmed,
            "LATEST" => shard.records.len(),
            "AFTER_SEQUENCE_NUMBER" => {
                let place = place().ok_or(INVALID)?;
                if place + 1 < shard.trimmed {
                    return Err(TRIMMED);
                }
                place + 1
            }
            _ => return Err(INVALID),
        };
        Ok(json!({ "ShardIterator": iterator_of(self.generation, arn, id, position) }))
    }

    fn records(&self, request: &Value) -> Result<Value, &'static str> {
        let parts: Vec<&str> = text(request, "ShardIterator").split('|').collect();
        let [generation, arn, id, position] = parts[..] else { return Err(INVALID) };
        let position: usize = position.parse().map_err(|_| INVALID)?;
        if generation != self.generation.to_string() {
            return Err("ExpiredIteratorException");
        }
        let shard = self.shard(arn, id)?;
        if position < shard.trimmed {
            return Err(TRIMMED);
        }
        let end = shard.records.len().min(position + RECORDS_MAX);
        let records = &shard.records[position..end];
        let repeated: Vec<&Value> =
            records.iter().flat_map(|record| std::iter::repeat_n(record, self.repeat)).collect();
        let last = shard.closed && end == shard.records.len();
        let mut answer = json!({ "Records": repeated });
        if !last {
            answer["NextShardIterator"] = json!(iterator_of(self.generation, arn, id, end));
        }
        Ok(answer)
    }
}

impl Shard {
    fn described(&self) -> Value {
        let number = |record: Option<&Value>| record.map(|record| record["dynamodb"]["SequenceNumber"].clone());
        let mut range = Map::new();
        range.extend(number(self.records.first()).map(|first| ("StartingSequenceNumber".to_owned(), first)));
        let last = number(self.records.last()).filter(|_| self.closed);
        range.extend(last.map(|last| ("EndingSequenceNumber".to_owned(), last)));
        json!({ "ShardId": self.id, "ParentShardId": self.parent, "SequenceNumberRange": range })
    }
}

fn iterator_of(generation: u64, arn: &str, shard: &str, position: usize) -> String {
    format!("{generation}|{arn}|{shard}|{position}")
}

fn text<'a>(request: &'a Value, name: &str) -> &'a str {
    request[name].as_str().unwrap_or_default()
}

/// The stream record of a change to this item.
pub fn record_of(item: &Value) -> Value {
    let keys = json!({ "PK": attribute(&item["PK"]), "SK": attribute(&item["SK"]) });
    let image: Map<String, Value> = item
        .as_object()
        .map(|item| item.iter().map(|(name, value)| (name.clone(), attribute(value))).collect())
        .unwrap_or_default();
    json!({
        "eventID": "1", "eventName": "MODIFY", "eventVersion": "1.1", "eventSource": "aws:dynamodb",
        "awsRegion": "ap-northeast-2",
        "dynamodb": {
            "ApproximateCreationDateTime": now_s(), "Keys": keys, "NewImage": image, "SizeBytes": 1,
            "StreamViewType": "NEW_AND_OLD_IMAGES",
        },
    })
}

#[expect(clippy::disallowed_methods, reason = "a server has its own clock")]
fn now_s() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// The stream record of the dispatch in spec §7.1 with another id, waiting for a driver, in version `ver`.
pub fn dispatch_record(id: &str, ver: u32) -> Value {
    let mut item: Value =
        serde_json::from_str(include_str!("../fixtures/specification/7.1-dispatch-requested.json")).unwrap_or_default();
    item["PK"] = json!(id);
    item["ver"] = json!(ver);
    item["offerSeq"] = json!(0);
    record_of(&item)
}

/// A JSON value in DynamoDB's JSON format.
fn attribute(value: &Value) -> Value {
    match value {
        Value::Null => json!({ "NULL": true }),
        Value::Bool(truth) => json!({ "BOOL": truth }),
        Value::Number(number) => json!({ "N": number.to_string() }),
        Value::String(text) => json!({ "S": text }),
        Value::Array(list) => json!({ "L": list.iter().map(attribute).collect::<Vec<_>>() }),
        Value::Object(map) => {
            let map: Map<String, Value> = map.iter().map(|(name, value)| (name.clone(), attribute(value))).collect();
            json!({ "M": map })
        }
    }
}
