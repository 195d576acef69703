//! The adapters against a scripted AWS endpoint: what they send, and how they read what AWS documents and emulators do
//! not do.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::IntoResponse as _;
use dispatch_operator::cloud::aws::AwsClients;
use dispatch_operator::cloud::ports::{Ports, TableCorrection};
use dispatch_tests::ministack::REGION;
use parking_lot::Mutex;

const ARN: &str = "arn:aws:cloudformation:ap-northeast-2:000000000000:stack/city/1";

/// A request: its operation (`X-Amz-Target`, else the body or the path with its query), and its body.
type Sent = (String, String);

/// An endpoint that answers each request with `answer`, and what it was sent.
struct Endpoint {
    ports: Ports,
    sent: Arc<Mutex<Vec<Sent>>>,
}

impl Endpoint {
    async fn start(answer: fn(&Sent) -> (StatusCode, String)) -> anyhow::Result<Self> {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&sent);
        let app = Router::new().fallback(move |headers: HeaderMap, uri: Uri, body: Bytes| {
            let seen = Arc::clone(&seen);
            async move {
                let target = headers.get("x-amz-target").and_then(|value| value.to_str().ok()).map(str::to_owned);
                let body = String::from_utf8_lossy(&body).into_owned();
                let one = (target.unwrap_or_else(|| uri.to_string()), body);
                let answer = answer(&one);
                seen.lock().push(one);
                answer.into_response()
            }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move { axum::serve(listener, app).await });
        let ports = AwsClients::emulated(REGION, &format!("http://{address}")).await.ports();
        Ok(Self { ports, sent })
    }

    fn take_sent(&self) -> Vec<Sent> {
        std::mem::take(&mut *self.sent.lock())
    }
}

/// 60 pages of 100 events, newest first. The last operation began with the 150th.
fn history((_, body): &Sent) -> (StatusCode, String) {
    let page: usize = body.split("NextToken=").nth(1).and_then(|rest| rest.parse().ok()).unwrap_or(0);
    let member = |number: usize| {
        let begins = number % 150 == 149;
        let (id, status) = if begins { (ARN, "UPDATE_IN_PROGRESS") } else { ("queue", "UPDATE_COMPLETE") };
        format!(
            "<member><EventId>e{number}</EventId><StackId>{ARN}</StackId><LogicalResourceId>One</LogicalResourceId>\
             <PhysicalResourceId>{id}</PhysicalResourceId><ResourceType>AWS::SQS::Queue</ResourceType>\
             <ResourceStatus>{status}</ResourceStatus><Timestamp>2026-01-01T00:00:00Z</Timestamp></member>"
        )
    };
    let members: Vec<String> = (page * 100..(page + 1) * 100).map(member).collect();
    let members = members.concat();
    let next = if page < 59 { format!("<NextToken>{}</NextToken>", page + 1) } else { String::new() };
    let body = format!(
        "<DescribeStackEventsResponse><DescribeStackEventsResult><StackEvents>{members}</StackEvents>{next}\
         </DescribeStackEventsResult></DescribeStackEventsResponse>"
    );
    (StatusCode::OK, body)
}

#[tokio::test]
async fn a_stack_with_years_of_events_is_read_up_to_its_last_operation() -> anyhow::Result<()> {
    let aws = Endpoint::start(history).await?;
    let events = aws.ports.stacks.events_since(ARN, None).await?;
    assert_eq!(events.len(), 150);
    assert!(events[0].begins_operation(ARN), "oldest first: {:?}", events[0]);
    assert_eq!(aws.take_sent().len(), 2, "pages");
    let events = aws.ports.stacks.events_since(ARN, Some("e7")).await?;
    assert_eq!((events.len(), aws.take_sent().len()), (7, 1));
    Ok(())
}

/// DynamoDB refuses every second change of the time to live within an hour.
fn refuses_the_time_to_live((operation, _): &Sent) -> (StatusCode, String) {
    if operation.ends_with(".UpdateTimeToLive") {
        let message = "Time to live has been modified multiple times within a fixed interval";
        let body = format!(r#"{{"__type":"com.amazon.coral.validate#ValidationException","message":"{message}"}}"#);
        return (StatusCode::BAD_REQUEST, body);
    }
    (StatusCode::OK, "{}".to_owned())
}

#[tokio::test]
async fn a_refused_time_to_live_keeps_nothing_else_from_its_correction_and_passes() -> anyhow::Result<()> {
    let aws = Endpoint::start(refuses_the_time_to_live).await?;
    let correction = TableCorrection {
        expiry: Some("expiresAt".to_owned()),
        deletion_protection: Some(true),
        ..TableCorrection::default()
    };
    let error =
        aws.ports.tables.correct("city", &correction).await.err().ok_or_else(|| anyhow::anyhow!("no refusal"))?;
    assert!(error.kind.is_transient(), "{error}");
    let sent = aws.take_sent();
    let operations: Vec<&str> = sent.iter().filter_map(|(operation, _)| operation.split('.').nth(1)).collect();
    assert_eq!(operations, ["UpdateTable", "UpdateTimeToLive"]);
    assert!(sent[0].1.contains(r#""DeletionProtectionEnabled":true"#), "{}", sent[0].1);
    Ok(())
}

/// S3 refuses to remove a tag that AWS has set ("System Tags cannot be removed by requester").
#[tokio::test]
async fn the_tags_of_a_bucket_keep_those_that_aws_has_set() -> anyhow::Result<()> {
    let aws = Endpoint::start(|_| (StatusCode::OK, String::new())).await?;
    let tags = [("aws:cloudformation:stack-name", "city"), ("coactus:system", "mobility/seoul")];
    let tags = tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    aws.ports.buckets.set_tags("city-exports", "000000000000", &tags).await?;
    let sent = aws.take_sent();
    for (key, value) in &tags {
        assert!(sent[0].1.contains(&format!("<Key>{key}</Key><Value>{value}</Value>")), "{}", sent[0].1);
    }
    Ok(())
}
