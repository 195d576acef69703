//! Queues, topic and devices on the emulator.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_sqs::types::QueueAttributeName;
use dispatch_core::ids::{DriverId, UserId};
use dispatch_http_types::{Notification, NotificationBody, NotificationKind};
use dispatch_runtime::adapters::messaging::{
    Consumer, Handled, MessageHandler, Received, SnsDevicePush, SnsNotifier, SqsTimers, notification_of,
};
use dispatch_runtime::ports::clock::SystemClock;
use dispatch_runtime::ports::{
    Clock as _, DevicePush as _, Notifier as _, OfferTimers as _, Person, PortError, PushOutcome, TimerMessage,
};
use dispatch_runtime::telemetry::metrics::Metrics;
use dispatch_tests::ministack::Ministack;
use dispatch_tests::recorder::{Fate, Recorded, Recorder};
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use crate::support::{sdk, until};

/// Arrival, body and attributes of a message.
type Seen = (Instant, String, HashMap<String, String>);

/// Records messages; its answer depends on their body.
#[derive(Default)]
struct Inbox {
    messages: Mutex<Vec<Seen>>,
}

impl Inbox {
    fn bodies(&self) -> Vec<String> {
        self.messages.lock().iter().map(|(_, body, _)| body.clone()).collect()
    }
}

#[async_trait]
impl MessageHandler for Inbox {
    async fn handle(&self, message: &Received) -> Handled {
        let seen = (Instant::now(), message.body.clone(), message.attributes.clone());
        let mut messages = self.messages.lock();
        let repeated = messages.iter().any(|(_, body, _)| *body == message.body);
        messages.push(seen);
        match message.body.as_str() {
            "poison" => Handled::Unreadable,
            "later" if !repeated => Handled::Left,
            _ => Handled::Done,
        }
    }
}

struct World {
    sqs: aws_sdk_sqs::Client,
    sns: aws_sdk_sns::Client,
    metrics: Arc<Metrics>,
    endpoint: String,
    _ministack: Ministack,
}

impl World {
    async fn start() -> Self {
        let ministack = Ministack::start().await.expect("ministack starts");
        let sdk = sdk(&ministack.endpoint()).await;
        let (sqs, sns) = (aws_sdk_sqs::Client::new(&sdk), aws_sdk_sns::Client::new(&sdk));
        Self { sqs, sns, metrics: Arc::new(Metrics::new()), endpoint: ministack.endpoint(), _ministack: ministack }
    }

    async fn queue(&self, name: &str, attributes: &[(QueueAttributeName, String)]) -> String {
        let mut request = self.sqs.create_queue().queue_name(name);
        for (attribute, value) in attributes {
            request = request.attributes(attribute.clone(), value);
        }
        request.send().await.unwrap().queue_url.unwrap()
    }

    async fn arn(&self, url: &str) -> String {
        let wanted = QueueAttributeName::QueueArn;
        let answer = self.sqs.get_queue_attributes().queue_url(url).attribute_names(wanted.clone()).send().await;
        answer.unwrap().attributes.unwrap()[&wanted].clone()
    }

    async fn size(&self, url: &str) -> String {
        let wanted = QueueAttributeName::ApproximateNumberOfMessages;
        let answer = self.sqs.get_queue_attributes().queue_url(url).attribute_names(wanted.clone()).send().await;
        answer.unwrap().attributes.unwrap()[&wanted].clone()
    }

    /// Consumes a queue until `enough`, then shuts down, which waits for the poll in progress only.
    async fn consume(&self, url: &str, enough: impl Fn(&Inbox) -> bool) -> Arc<Inbox> {
        let inbox = Arc::new(Inbox::default());
        let consumer = Consumer::new(self.sqs.clone(), url, "test", Arc::clone(&self.metrics));
        let shutdown = CancellationToken::new();
        let (handler, end) = (Arc::clone(&inbox), shutdown.clone());
        let running = tokio::spawn(async move { consumer.run(handler.as_ref(), &end).await });
        until("the queue's messages", async || enough(&inbox).then_some(())).await;
        shutdown.cancel();
        let began = Instant::now();
        running.await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
        inbox
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_deleted_when_done_left_for_later_and_poison_goes_to_the_dead_letters() {
    let world = World::start().await;
    let dead = world.queue("dead", &[]).await;
    let redrive = serde_json::json!({ "deadLetterTargetArn": world.arn(&dead).await, "maxReceiveCount": 2 });
    let attributes = [
        (QueueAttributeName::VisibilityTimeout, "1".to_owned()),
        (QueueAttributeName::RedrivePolicy, redrive.to_string()),
    ];
    let url = world.queue("work", &attributes).await;
    for number in 0..25 {
        world.sqs.send_message().queue_url(&url).message_body(format!("fine-{number}")).send().await.unwrap();
    }
    for body in ["poison", "later"] {
        world.sqs.send_message().queue_url(&url).message_body(body).send().await.unwrap();
    }
    let count = |inbox: &Inbox, what: &str| inbox.bodies().iter().filter(|body| *body == what).count();
    let fine = |inbox: &Inbox| inbox.bodies().iter().filter(|body| body.starts_with("fine")).count();
    let inbox = world
        .consume(&url, |inbox| fine(inbox) >= 25 && count(inbox, "later") >= 2 && count(inbox, "poison") >= 2)
        .await;
    assert_eq!((fine(&inbox), count(&inbox, "later")), (25, 2));
    // The queue moves it instead of delivering it once more than the limit.
    until("the dead letter", async || {
        let polled = world.sqs.receive_message().queue_url(&url).send().await.unwrap();
        assert!(polled.messages.unwrap_or_default().is_empty());
        (world.size(&dead).await == "1").then_some(())
    })
    .await;
    assert_eq!(world.size(&url).await, "0");
    let metrics = world.metrics.encode().unwrap();
    assert!(metrics.contains("dispatch_queue_messages_total{queue=\"test\",outcome=\"unreadable\"} 2"), "{metrics}");
}

/// Fails to handle a message while the shutdown begins.
struct Ending(CancellationToken);

#[async_trait]
impl MessageHandler for Ending {
    async fn handle(&self, _: &Received) -> Handled {
        self.0.cancel();
        Handled::Left
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_process_that_ends_could_not_do_is_handed_back_at_once() {
    let world = World::start().await;
    let attributes = [(QueueAttributeName::VisibilityTimeout, "600".to_owned())];
    let url = world.queue("work", &attributes).await;
    world.sqs.send_message().queue_url(&url).message_body("later").send().await.unwrap();
    let shutdown = CancellationToken::new();
    let consumer = Consumer::new(world.sqs.clone(), &url, "test", Arc::clone(&world.metrics));
    consumer.run(&Ending(shutdown.clone()), &shutdown).await;
    until("the message to be there for others", async || {
        let polled = world.sqs.receive_message().queue_url(&url).send().await.unwrap();
        polled.messages.filter(|messages| messages.len() == 1)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_last_poll_brings_is_handed_back_and_not_lost_for_a_while() {
    let world = World::start().await;
    let attributes = [(QueueAttributeName::VisibilityTimeout, "600".to_owned())];
    let url = world.queue("work", &attributes).await;
    let proxy = Recorder::aws(&world.endpoint).await.unwrap();
    let client = aws_sdk_sqs::Client::new(&sdk(&proxy.endpoint()).await);
    let shutdown = CancellationToken::new();
    let (consumer, end) = (Consumer::new(client, &url, "test", Arc::clone(&world.metrics)), shutdown.clone());
    let inbox = Arc::new(Inbox::default());
    let handler = Arc::clone(&inbox);
    let running = tokio::spawn(async move { consumer.run(handler.as_ref(), &end).await });
    let polls = |calls: &[Recorded]| calls.iter().filter(|call| call.operation == "ReceiveMessage").count() >= 2;
    proxy.until(Duration::from_secs(10), polls).await.unwrap();
    // Both polls are in progress when the shutdown begins; the message arrives after that.
    shutdown.cancel();
    world.sqs.send_message().queue_url(&url).message_body("late").send().await.unwrap();
    running.await.unwrap();
    assert_eq!(inbox.bodies(), [""; 0], "nothing new is taken in");
    let handed_back = proxy.calls().iter().any(|call| call.operation == "ChangeMessageVisibilityBatch");
    assert!(handed_back, "a poll brought it");
    until("the message to be there for others", async || {
        let polled = world.sqs.receive_message().queue_url(&url).send().await.unwrap();
        polled.messages.filter(|messages| messages.len() == 1)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timer_is_never_early_and_carries_the_specified_message() {
    let world = World::start().await;
    let url = world.queue("offers", &[]).await;
    let message = TimerMessage {
        dispatch_id: "dispatch#00001".to_owned(),
        driver_id: Some("driver#00001".to_owned()),
        request_time: "2025-05-25T15:30:30+09:00".to_owned(),
        timeout_at: "2025-05-25T15:32:30+09:00".to_owned(),
        offer_seq: None,
        ver: None,
    };
    let began = Instant::now();
    SqsTimers::new(world.sqs.clone(), &url).start(&message, 1_200).await.unwrap();
    let inbox = world.consume(&url, |inbox| !inbox.bodies().is_empty()).await;
    let (at, body, _) = inbox.messages.lock()[0].clone();
    assert!(at - began >= Duration::from_millis(1_200), "{:?}", at - began);
    let specified: serde_json::Value =
        serde_json::from_str(include_str!("../fixtures/specification/7.4-sqs-message.json")).unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&body).unwrap(), specified);
}

fn offer() -> Notification {
    Notification {
        id: "dispatch#00001:1:OFFER".to_owned(),
        recipient: "driver#00001".to_owned(),
        kind: NotificationKind::Offer,
        body: NotificationBody {
            message: "새로운 배차 요청이 있습니다".to_owned(),
            dispatch_id: Some("dispatch#00001".to_owned()),
            pickup_address: Some("서울시 중구 명동".to_owned()),
            destination_address: Some("서울시 종로구 종로".to_owned()),
            estimated_fare: Some(12_000),
            metered_fare: None,
            actual_fare: None,
            estimated_distance: Some("2.5km".to_owned()),
            offer_seq: None,
            timeout_at: None,
            status: None,
        },
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notification_comes_through_topic_and_queue_as_it_was() {
    let world = World::start().await;
    let topic = world.sns.create_topic().name("notifications").send().await.unwrap().topic_arn.unwrap();
    let url = world.queue("notifications", &[]).await;
    let queue = world.arn(&url).await;
    let policy = serde_json::json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage",
        "Resource": queue, "Condition": {"ArnEquals": {"aws:SourceArn": topic}}}]});
    let allowed = world.sqs.set_queue_attributes().queue_url(&url);
    allowed.attributes(QueueAttributeName::Policy, policy.to_string()).send().await.unwrap();
    let subscribe = world.sns.subscribe().topic_arn(&topic).protocol("sqs").endpoint(&queue);
    subscribe.attributes("RawMessageDelivery", "true").send().await.unwrap();

    SnsNotifier::new(world.sns.clone(), &topic).publish(&[offer()]).await.unwrap();
    let inbox = world.consume(&url, |inbox| !inbox.bodies().is_empty()).await;
    let (_, body, attributes) = inbox.messages.lock()[0].clone();
    let specified: serde_json::Value =
        serde_json::from_str(include_str!("../fixtures/specification/7.4-sns-message.json")).unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&body).unwrap(), specified);
    let received = Received { id: "1".to_owned(), body, attributes };
    assert_eq!(notification_of(&received), Some(offer()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_is_registered_again_and_a_disabled_one_is_no_error() {
    let world = World::start().await;
    let person = Person::Driver(DriverId::parse("driver#00001").unwrap());
    let nowhere = SnsDevicePush::new(world.sns.clone(), None);
    assert_eq!(nowhere.register(&person, "token").await.unwrap(), None);

    let application = world.sns.create_platform_application().name("dispatch").platform("GCM");
    let application = application.attributes("PlatformCredential", "key").send().await.unwrap();
    let devices = SnsDevicePush::new(world.sns.clone(), application.platform_application_arn());
    let device = devices.register(&person, "token").await.unwrap().expect("a device");
    let (endpoint, later) = (device.endpoint_arn.clone(), SystemClock.now().plus_ms(15_000));
    assert_eq!(device.former_owner, None);
    devices.assign(&endpoint, &person, "token").await.unwrap();
    let disable = world.sns.set_endpoint_attributes().endpoint_arn(&endpoint).attributes("Enabled", "false");
    disable.send().await.unwrap();
    devices.push(&endpoint, &offer(), later).await.unwrap();
    assert_eq!(devices.register(&person, "token").await.unwrap(), Some(device));
    devices.assign(&endpoint, &person, "token").await.unwrap();
    assert_eq!(devices.push(&endpoint, &offer(), later).await.unwrap(), PushOutcome::Sent);
    // The phone is handed to another person.
    let other = Person::User(UserId::parse("user#00001").unwrap());
    for _ in 0..2 {
        // As long as it is not assigned, the former owner is found again.
        let moved = devices.register(&other, "token").await.unwrap().expect("a device");
        assert_eq!((moved.endpoint_arn.as_str(), moved.former_owner), (endpoint.as_str(), Some(person.clone())));
    }
    devices.assign(&endpoint, &other, "token").await.unwrap();
    let mine = devices.register(&other, "token").await.unwrap().expect("a device");
    assert_eq!(mine.former_owner, None);
    let attributes = world.sns.get_endpoint_attributes().endpoint_arn(&endpoint).send().await.unwrap();
    assert_eq!(attributes.attributes.unwrap()["Enabled"], "true");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_endpoint_is_gone_and_one_of_another_person_stays() {
    let world = World::start().await;
    let driver = Person::Driver(DriverId::parse("driver#00001").unwrap());
    let user = Person::User(UserId::parse("user#00001").unwrap());
    let application = world.sns.create_platform_application().name("dispatch").platform("GCM");
    let application = application.attributes("PlatformCredential", "key").send().await.unwrap();
    let devices = SnsDevicePush::new(world.sns.clone(), application.platform_application_arn());
    let device = devices.register(&driver, "token").await.unwrap().expect("a device");
    devices.assign(&device.endpoint_arn, &driver, "token").await.unwrap();
    let later = SystemClock.now().plus_ms(15_000);

    devices.unregister(&device.endpoint_arn, &user).await.unwrap();
    assert_eq!(devices.push(&device.endpoint_arn, &offer(), later).await.unwrap(), PushOutcome::Sent);
    for _ in 0..2 {
        devices.unregister(&device.endpoint_arn, &driver).await.unwrap();
    }
    assert_eq!(devices.push(&device.endpoint_arn, &offer(), later).await.unwrap(), PushOutcome::Gone);
    let gone = world.sns.get_endpoint_attributes().endpoint_arn(&device.endpoint_arn).send().await;
    assert!(gone.unwrap_err().into_service_error().is_not_found_exception());
    // Without a platform application there is nothing to delete.
    SnsDevicePush::new(world.sns.clone(), None).unregister(&device.endpoint_arn, &driver).await.unwrap();
}

/// The emulator does not disable applications, so a proxy answers as AWS does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disabled_platform_application_is_recognised() {
    let world = World::start().await;
    let application = world.sns.create_platform_application().name("dispatch").platform("GCM");
    let application = application.attributes("PlatformCredential", "key").send().await.unwrap();
    let proxy = Recorder::aws(&world.endpoint).await.unwrap();
    let client = aws_sdk_sns::Client::new(&sdk(&proxy.endpoint()).await);
    let devices = SnsDevicePush::new(client, application.platform_application_arn());
    let person = Person::Driver(DriverId::parse("driver#00001").unwrap());
    let device = devices.register(&person, "token").await.unwrap().expect("a device");
    proxy.interfere(|call| match call.operation.as_str() {
        "Publish" | "CreatePlatformEndpoint" => Fate::Answer {
            status: 400,
            kind: "text/xml",
            body: "<ErrorResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><Error><Type>Sender</Type>\
                   <Code>PlatformApplicationDisabled</Code><Message>Platform application is disabled</Message>\
                   </Error></ErrorResponse>"
                .to_owned(),
        },
        _ => Fate::Pass,
    });
    let later = SystemClock.now().plus_ms(15_000);
    assert_eq!(devices.push(&device.endpoint_arn, &offer(), later).await.unwrap(), PushOutcome::Disabled);
    let refused = devices.register(&person, "another token").await.expect_err("no endpoint is created");
    assert!(matches!(refused, PortError::Unavailable { .. }), "{refused:?}");
    proxy.stop_interfering();
    assert_eq!(devices.push(&device.endpoint_arn, &offer(), later).await.unwrap(), PushOutcome::Sent);
}
