//! Notifications on their way to event streams and devices.

use std::sync::atomic::Ordering;

use dispatch_http_types::Notification;

use super::*;
use crate::ports::Person;
use crate::roles::Deliveries;

/// A city with one driver, whose device is registered, and an open offer to this driver.
async fn with_offer() -> (World, Deliveries, Received) {
    let world = World::with_drivers(1).await;
    world.request().await;
    world.stream().await;
    let driver = Person::Driver(driver_id(1));
    world.store.set_device(&driver, "endpoint-1").await.unwrap();
    let offer = world.notifier.published.all().into_iter().find(|sent| sent.kind == NotificationKind::Offer).unwrap();
    let message = message(&offer);
    let deliveries = Deliveries::new(Arc::clone(&world.engine), true);
    (world, deliveries, message)
}

/// The message of the queue that SNS makes of a notification.
pub(super) fn message(notification: &Notification) -> Received {
    let attributes = [
        ("id", notification.id.clone()),
        ("recipient", notification.recipient.clone()),
        ("kind", serde_json::to_value(notification.kind).unwrap().as_str().unwrap().to_owned()),
    ];
    Received {
        id: String::new(),
        body: serde_json::to_string(&notification.body).unwrap(),
        attributes: attributes.map(|(name, value)| (name.to_owned(), value)).into(),
    }
}

#[tokio::test]
async fn an_offer_that_is_over_is_not_delivered() {
    let (world, deliveries, offer) = with_offer().await;
    world.clock.advance_ms(120_001);
    assert_eq!(deliveries.handle(&offer).await, Handled::Done);
    assert!(world.devices.pushed.all().is_empty());
}

#[tokio::test]
async fn a_push_is_not_repeated_for_the_event_stream() {
    let (world, deliveries, offer) = with_offer().await;
    let mut stream = world.engine.ports.streams.listen(&Person::Driver(driver_id(1))).await.unwrap();
    world.redis.set_down(true);
    for _ in 0..3 {
        assert_eq!(deliveries.handle(&offer).await, Handled::Left);
    }
    world.redis.set_down(false);
    assert_eq!(deliveries.handle(&offer).await, Handled::Done);
    assert_eq!(world.devices.pushed.all().len(), 1);
    assert!(stream.try_recv().is_ok());
}

#[tokio::test]
async fn an_event_is_not_repeated_for_the_push() {
    let (world, deliveries, offer) = with_offer().await;
    let mut stream = world.engine.ports.streams.listen(&Person::Driver(driver_id(1))).await.unwrap();
    world.push.set_down(true);
    for _ in 0..3 {
        assert_eq!(deliveries.handle(&offer).await, Handled::Left);
    }
    world.push.set_down(false);
    assert_eq!(deliveries.handle(&offer).await, Handled::Done);
    assert_eq!(world.devices.pushed.all().len(), 1);
    assert!(stream.try_recv().is_ok());
    assert!(stream.try_recv().is_err(), "the event was sent once");
}

#[tokio::test]
async fn a_device_that_is_gone_is_removed() {
    let (world, deliveries, offer) = with_offer().await;
    world.devices.gone.lock().insert("endpoint-1".to_owned());
    assert_eq!(deliveries.handle(&offer).await, Handled::Done);
    assert_eq!(world.store.device(&Person::Driver(driver_id(1))).await.unwrap(), None);
}

#[tokio::test]
async fn a_removed_device_receives_nothing() {
    let (world, deliveries, offer) = with_offer().await;
    let driver = Person::Driver(driver_id(1));
    assert!(world.store.remove_device(&driver, "endpoint-1").await.unwrap());
    assert_eq!(deliveries.handle(&offer).await, Handled::Done);
    assert!(world.devices.pushed.all().is_empty());
}

#[tokio::test]
async fn a_disabled_platform_application_is_counted_and_delays_nothing() {
    let (world, deliveries, offer) = with_offer().await;
    let driver = Person::Driver(driver_id(1));
    let mut stream = world.engine.ports.streams.listen(&driver).await.unwrap();
    world.devices.disabled.store(true, Ordering::SeqCst);
    assert_eq!(deliveries.handle(&offer).await, Handled::Done, "a redelivery would not help");
    assert!(stream.try_recv().is_ok(), "the event stream has the offer");
    assert!(world.store.device(&driver).await.unwrap().is_some(), "the device stays registered");
    world.devices.disabled.store(false, Ordering::SeqCst);
    assert_eq!(deliveries.handle(&offer).await, Handled::Done);
    assert_eq!(world.devices.pushed.all().len(), 1);
    let metrics = world.engine.metrics.encode().unwrap();
    for line in ["dispatch_pushes_total{outcome=\"disabled\"} 1", "dispatch_pushes_total{outcome=\"sent\"} 1"] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
}
