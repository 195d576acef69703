//! Writes whose answers are lost: the recorder forwards each request and closes the connection instead of returning the
//! answer.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use dispatch_core::dispatch::DispatchStatus;
use dispatch_core::geo::Coordinate;
use dispatch_core::ids::{DispatchId, DriverId, UserId};
use dispatch_core::person::PersonStatus;
use dispatch_core::route::RoutePoint;
use dispatch_runtime::adapters::store::DynamoStore;
use dispatch_runtime::ports::{
    AvailabilityChange, Commit, CreateOutcome, DispatchStore as _, IdempotencyState, IdempotencyStore as _,
    IdempotentRequest, Person, ProfileStore as _, StoredAnswer,
};
use dispatch_tests::recorder::{Fate, Recorder};

use super::dynamo_table::DynamoTable;
use super::dynamodb::Aws;
use super::table::{Table, accept_step, driver_profile, myeongdong, new_dispatch, offer_step, start, user_profile};
use crate::support::seoul;

/// Answers the next `skip` calls; the `lose` calls after them take effect without an answer.
fn lose(recorder: &Recorder, skip: usize, lose: usize) {
    let unanswered = skip..skip.saturating_add(lose);
    recorder.clear();
    recorder.interfere(move |call| if unanswered.contains(&call.number) { Fate::CutAfter } else { Fate::Pass });
}

/// A store on the same table behind the proxy. Its SDK attempts each call once, so that every loss reaches the store.
fn behind(proxy: &Recorder, table: &DynamoTable) -> DynamoStore {
    let config =
        table.client.config().to_builder().endpoint_url(proxy.endpoint()).retry_config(RetryConfig::disabled());
    DynamoStore::new(Client::from_conf(config.build()), &table.name, 1, seoul())
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_found_to_be_ours() {
    let aws = Aws::start().await;
    let table = aws.table(1).await;
    let Table::Dynamo(dynamo) = &table else { panic!("not a DynamoDB table") };
    let proxy = Recorder::aws(&aws.endpoint()).await.unwrap();
    let store = behind(&proxy, dynamo);
    let (user, driver) = (table.add_user("user#1").await, table.add_driver("driver#1").await);

    // The request: the first attempt stores it, the second finds and recognises it.
    lose(&proxy, 0, 1);
    let created = store.create(new_dispatch("dispatch#1", &user, start())).await.unwrap();
    let CreateOutcome::Stored(requested) = created else { panic!("our own request was taken for an earlier one") };
    assert!(proxy.calls().len() > 1, "the answer was lost");

    // An update of the dispatch only.
    lose(&proxy, 0, 1);
    let offer = offer_step(&requested, &driver, start().plus_ms(1000));
    let Commit::Applied(offered) = store.commit(&requested, &offer, None).await.unwrap() else {
        panic!("our own write was mistaken for another writer's")
    };
    assert_eq!(offered.state.offer_seq, 1);
    assert!(proxy.calls().len() > 1, "the answer was lost");

    // A transaction after reading the driver; the driver is then on this very dispatch.
    lose(&proxy, 1, 1);
    let accept = accept_step(&offered, &driver, start().plus_ms(2000));
    let Commit::Applied(accepted) = store.commit(&offered, &accept, None).await.unwrap() else {
        panic!("our own transaction was mistaken for another writer's")
    };
    assert_eq!(accepted.state.status, DispatchStatus::Accepted);
    assert!(proxy.calls().len() > 2, "the answer was lost");
    let stored = table.reload(&accepted).await;
    assert_eq!(stored.details.events.len(), 3, "nothing was written twice");
}

#[tokio::test]
async fn every_other_write_survives_a_lost_answer_and_is_done_once() {
    let aws = Aws::start().await;
    let table = aws.table(1).await;
    let Table::Dynamo(dynamo) = &table else { panic!("not a DynamoDB table") };
    let proxy = Recorder::aws(&aws.endpoint()).await.unwrap();
    let store = behind(&proxy, dynamo);
    let now = start();

    // Profiles are read, then written; the answer to the write is lost, for a new person and for a known one.
    let (user, driver) = (UserId::parse("user#1").unwrap(), DriverId::parse("driver#1").unwrap());
    for _ in 0..2 {
        lose(&proxy, 1, 1);
        store.put_user(&user, user_profile(), now).await.unwrap();
        lose(&proxy, 1, 1);
        store.put_driver(&driver, driver_profile(), now).await.unwrap();
    }
    assert_eq!(table.partition("user#1").await.len(), 1);
    lose(&proxy, 1, 1);
    let changed = store.set_availability(&driver, PersonStatus::Active, &myeongdong(), now).await.unwrap();
    let AvailabilityChange::Done(changed) = changed else { panic!("the driver is not free") };
    assert_eq!(changed.current_status.status, PersonStatus::Active);
    assert_eq!(table.partition("driver#1").await.len(), 2, "the profile and one entry of its history");
    lose(&proxy, 1, 1);
    assert!(store.deactivate(&changed, now.plus_ms(1)).await.unwrap(), "our own change was taken for another's");
    assert_eq!(table.partition("driver#1").await.len(), 3, "another entry of its history");
    assert!(!store.deactivate(&changed, now.plus_ms(2)).await.unwrap(), "it is inactive already");

    // A request with a key is begun once, by this attempt.
    let request = IdempotentRequest { key: "k".to_owned(), asked: "a".to_owned(), holder: "me".to_owned() };
    lose(&proxy, 0, 1);
    assert!(matches!(store.begin(&request, now).await.unwrap(), IdempotencyState::New));
    assert!(proxy.calls().len() > 1, "the answer was lost");
    let another = IdempotentRequest { holder: "another".to_owned(), ..request.clone() };
    assert!(matches!(store.begin(&another, now).await.unwrap(), IdempotencyState::InProgress { .. }));

    // Idempotent writes are repeated by the SDK in production; here the test repeats them.
    let dispatch = DispatchId::parse("dispatch#1").unwrap();
    let point = RoutePoint { position: Coordinate::new(37.5, 127.0).unwrap(), at: now };
    let endpoint = "arn:aws:sns:ap-northeast-2:000000000000:endpoint/GCM/app/1";
    let kept = StoredAnswer { status: 200, body: "{}".to_owned() };
    lose(&proxy, 0, 3);
    assert!(store.append_route(&dispatch, 1, &[point]).await.is_err());
    assert!(store.set_device(&Person::Driver(driver.clone()), endpoint).await.is_err());
    assert!(store.keep(&request, &kept, now).await.is_err());
    store.append_route(&dispatch, 1, &[point]).await.unwrap();
    assert!(store.set_device(&Person::Driver(driver), endpoint).await.unwrap());
    store.keep(&request, &kept, now).await.unwrap();
    assert_eq!(store.read_route(&dispatch).await.unwrap().len(), 1);
    assert!(
        matches!(store.begin(&another, now).await.unwrap(), IdempotencyState::Completed(answer) if answer.body == "{}")
    );
}

#[tokio::test]
async fn a_service_that_never_answers_is_not_possible_right_now() {
    let aws = Aws::start().await;
    let table = aws.table(1).await;
    let Table::Dynamo(dynamo) = &table else { panic!("not a DynamoDB table") };
    let proxy = Recorder::aws(&aws.endpoint()).await.unwrap();
    let (user, driver) = (table.add_user("user#1").await, table.add_driver("driver#1").await);
    let requested = table.request("dispatch#1", &user, start()).await;
    lose(&proxy, 0, usize::MAX);
    let offer = offer_step(&requested, &driver, start().plus_ms(1000));
    let store = behind(&proxy, dynamo);
    let answer = tokio::time::timeout(Duration::from_secs(10), store.commit(&requested, &offer, None));
    let error = answer.await.expect("the tries are bounded").err().expect("nothing was answered");
    assert!(matches!(error, dispatch_runtime::ports::PortError::Unavailable { .. }), "{error:?}");
    // The write took effect: a later read finds it, and the step is not decided twice.
    assert_eq!(table.reload(&requested).await.state.offer_seq, 1);
}
