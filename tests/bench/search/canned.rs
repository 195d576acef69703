//! A table that answers every page of one query at once, from memory: faster than any real table.

use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use dispatch_core::geo::Coordinate;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Maximum size of the items on one page of DynamoDB, bytes.
pub(super) const PAGE_BYTES: usize = 1 << 20;

/// The attributes of an item, as plain JSON.
pub(super) type Fields = Map<String, Value>;

/// The item of an active driver, as in spec §6.
pub(super) fn item(number: usize, home: Coordinate) -> anyhow::Result<Fields> {
    let id = format!("driver#{number:06}");
    let item = json!({
        "PK": id,
        "SK": "PROFILE",
        "EntityType": "DRIVER",
        "phone": format!("010{number:08}"),
        "createdAt": "2025-05-25T15:30:00+09:00",
        "vehicleInfo": { "manufacturer": "현대", "licensePlate": "12가3456" },
        "currentStatus": {
            "status": "ACTIVE",
            "currentLocation": { "lat": home.lat(), "lng": home.lng(), "address": "서울시 강남구 역삼동" },
            "lastLocationUpdate": "2025-05-25T15:30:00+09:00",
            "currentDispatchId": null,
        },
        "preferences": {
            "defaultRideType": "STANDARD",
            "preferredRegions": ["중구", "종로구"],
            "maxDistance": 20,
            "autoAccept": false,
            "minimumFare": 8000,
        },
        "completedRides": ["dispatch#00001"],
        "GSI1PK": "DRIVER#ACTIVE",
        "GSI1SK": format!("REGION#강남구#{id}"),
    });
    match item {
        Value::Object(fields) => Ok(fields),
        _ => anyhow::bail!("an item is an object"),
    }
}

/// Size of an item by DynamoDB's rule: names and strings in UTF-8, numbers one byte per two digits and one more, lists
/// and maps three bytes and one more per entry.
pub(super) fn item_bytes(fields: &Fields) -> usize {
    fields.iter().map(|(name, value)| name.len() + value_bytes(value)).sum()
}

fn value_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 1,
        Value::Number(number) => {
            let digits = number.to_string().bytes().filter(u8::is_ascii_digit).count();
            digits.div_ceil(2) + 1
        }
        Value::String(text) => text.len(),
        Value::Array(values) => 3 + values.iter().map(|value| 1 + value_bytes(value)).sum::<usize>(),
        Value::Object(fields) => {
            3 + fields.iter().map(|(name, value)| 1 + name.len() + value_bytes(value)).sum::<usize>()
        }
    }
}

/// Converts a value to DynamoDB JSON.
fn typed(value: &Value) -> Value {
    match value {
        Value::Null => json!({ "NULL": true }),
        Value::Bool(_) => json!({ "BOOL": value }),
        Value::Number(number) => json!({ "N": number.to_string() }),
        Value::String(_) => json!({ "S": value }),
        Value::Array(values) => json!({ "L": values.iter().map(typed).collect::<Vec<_>>() }),
        Value::Object(fields) => json!({ "M": typed_fields(fields) }),
    }
}

fn typed_fields(fields: &Fields) -> Value {
    Value::Object(fields.iter().map(|(name, value)| (name.clone(), typed(value))).collect())
}

/// The running table, stopped when dropped.
pub(super) struct CannedTable {
    endpoint: String,
    pages: Arc<Vec<Bytes>>,
    server: JoinHandle<()>,
}

impl Drop for CannedTable {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl CannedTable {
    /// Starts a table that serves these items.
    pub(super) async fn start(items: &[Fields]) -> anyhow::Result<Self> {
        let pages = Arc::new(pages_of(items));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let router = Router::new().fallback(answer).with_state(Arc::clone(&pages));
        let server = tokio::spawn(async move {
            // A failure would fail the searches; there is nothing to do with it here.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { endpoint, pages, server })
    }

    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Number of pages of the whole list.
    pub(super) fn pages(&self) -> usize {
        self.pages.len()
    }
}

fn pages_of(items: &[Fields]) -> Vec<Bytes> {
    let mut rest = items;
    let mut pages = Vec::new();
    while !rest.is_empty() {
        let mut bytes = 0;
        let count = rest.iter().take_while(|item| {
            let fits = bytes < PAGE_BYTES;
            bytes += item_bytes(item);
            fits
        });
        let count = count.count();
        let (page, behind) = rest.split_at(count);
        rest = behind;
        let items = page.iter().map(typed_fields).collect::<Vec<_>>();
        let mut body = json!({ "Items": items, "Count": count, "ScannedCount": count });
        if !rest.is_empty() {
            // The key is the number of the next page.
            body["LastEvaluatedKey"] = json!({ "PK": { "S": (pages.len() + 1).to_string() } });
        }
        pages.push(Bytes::from(body.to_string()));
    }
    pages
}

async fn answer(State(pages): State<Arc<Vec<Bytes>>>, request: Bytes) -> Response {
    let page = page_asked_for(&request).ok().and_then(|number| pages.get(number)).cloned().unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/x-amz-json-1.0")], page).into_response()
}

fn page_asked_for(request: &[u8]) -> anyhow::Result<usize> {
    let request: Value = serde_json::from_slice(request)?;
    let start = &request["ExclusiveStartKey"]["PK"]["S"];
    if start.is_null() { Ok(0) } else { Ok(start.as_str().context("a text")?.parse()?) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_has_the_size_dynamodb_gives_it() {
        let fields = json!({ "PK": "driver#1", "n": 123, "m": { "a": true }, "l": ["중"] });
        let Value::Object(fields) = fields else { panic!("an object") };
        // PK 2 + 8, n 1 + 3, m 1 + 3 + (1 + 1 + 1), l 1 + 3 + (1 + 3).
        assert_eq!(item_bytes(&fields), 10 + 4 + 7 + 8);
    }

    #[test]
    fn pages_end_where_a_megabyte_is_full() {
        let home = Coordinate::new(37.5, 127.0).unwrap();
        let items: Vec<Fields> = (0..5_000).map(|number| item(number, home).unwrap()).collect();
        let on_a_page = PAGE_BYTES.div_ceil(item_bytes(&items[0]));
        assert_eq!(pages_of(&items).len(), 5_000_usize.div_ceil(on_a_page));
    }
}
