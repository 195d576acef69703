//! Push notifications of a running worker: a device that was removed, and a platform application that was disabled.

use dispatch_tests::recorder::{Fate, Recorder};
use dispatch_tests::support::until;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::process::{Surroundings, free_port};
use crate::support::City;
use crate::trip::{Apps, Call, Caller};

/// The answer of SNS if FCM rejects the credential of the application.
const DISABLED: &str = "<ErrorResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><Error><Type>Sender</Type>\
                        <Code>PlatformApplicationDisabled</Code><Message>Platform application is disabled</Message>\
                        </Error></ErrorResponse>";

/// Plays a ride of the user and the driver `push`.
async fn ride(apps: &Apps, key: &str) {
    let mut ride = apps.ask_with_key("push", key).await;
    apps.accept(&mut ride).await;
    apps.drive(&ride).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disabled_application_delays_no_ride_and_a_removed_device_gets_no_push() {
    let mut city = City::create().await;
    let sns = aws_sdk_sns::Client::new(city.clients.config());
    let application = sns.create_platform_application().name("push").platform("GCM");
    let application = application.attributes("PlatformCredential", "key").send().await.unwrap();
    city.config.notifications.platform_application_arn = application.platform_application_arn;
    let aws = Recorder::aws(&city.ministack.endpoint()).await.unwrap();
    let surroundings = Surroundings::new(&city.config.to_json_pretty().unwrap(), aws.endpoint(), None);
    let port = free_port();
    let worker = surroundings.start("push", "all", port).await;
    let apps = Apps::new(&city, port);
    let pushes = || aws.calls().iter().filter(|call| call.service == "sns" && call.operation == "Publish").count();
    let queue = &city.config.queues.notifications_url;
    let delivered = async || {
        let ports = city.clients.ports();
        until("every notification to be delivered", async || {
            (ports.queues.waiting(queue).await.unwrap() == Some(0)).then_some(())
        })
        .await;
    };

    let (_, driver) = apps.people("push").await;
    let device = Call::new(Method::PUT, "/v1/drivers/push/device".to_owned()).body(json!({ "token": "a-device" }));
    let registered = apps.settled(Caller::Driver(&driver), &device).await;
    assert_eq!(registered, (StatusCode::OK, json!({ "push": true })));
    ride(&apps, "first").await;
    until("the push of the offer", async || (pushes() > 0).then_some(())).await;
    delivered().await;

    aws.interfere(|call| match call.operation.as_str() {
        "Publish" => Fate::Answer { status: 400, kind: "text/xml", body: DISABLED.to_owned() },
        _ => Fate::Pass,
    });
    ride(&apps, "second").await;
    delivered().await;
    assert!(worker.metric("dispatch_pushes_total{outcome=\"disabled\"} ").await > 0);
    let left = "dispatch_queue_messages_total{queue=\"notifications\",outcome=\"left\"} ";
    assert_eq!(worker.metric(left).await, 0, "nothing is redelivered");
    aws.stop_interfering();

    for _ in 0..2 {
        let removal = Call::new(Method::DELETE, "/v1/drivers/push/device".to_owned());
        assert_eq!(apps.settled(Caller::Driver(&driver), &removal).await.0, StatusCode::NO_CONTENT);
    }
    let before = pushes();
    ride(&apps, "third").await;
    delivered().await;
    assert_eq!(pushes(), before);
    let deleted = aws.calls().iter().filter(|call| call.operation == "DeleteEndpoint").count();
    assert_eq!(deleted, 1, "the second removal has nothing to delete");
}
