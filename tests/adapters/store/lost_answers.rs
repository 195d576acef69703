//! Writes whose answers are lost on the way: the recorder hands each request on and cuts the connection instead of handing the answer back.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use dispatch_core::dispatch::Status;
use dispatch_runtime::port::{Commit, Created, DispatchStore as _};
use dispatch_runtime::store::DynamoStore;
use dispatch_tests::recorder::{Fate, Recorder};

use super::dynamodb::{Aws, DynamoTable};
use super::table::{Table, accept_step, new_dispatch, offer_step, start};
use crate::support::seoul;

/// Of the calls from now on, `skip` are answered, the next `lose` take effect without an answer.
fn lose(recorder: &Recorder, skip: usize, lose: usize) {
    let lost = skip..skip.saturating_add(lose);
    recorder.clear();
    recorder.interfere(move |call| if lost.contains(&call.number) { Fate::CutAfter } else { Fate::Pass });
}

/// A store on the same table whose answers go through the proxy. The SDK tries each call once, so that every loss reaches the store.
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

    // The request itself: stored by the first try, met by the second.
    lose(&proxy, 0, 1);
    let created = store.create(new_dispatch("dispatch#1", &user, start())).await.unwrap();
    let Created::Existed(requested) = created else { panic!("the second try did not meet the first") };
    assert!(proxy.calls().len() > 1, "the answer was lost");

    // An update of the dispatch alone.
    lose(&proxy, 0, 1);
    let offer = offer_step(&requested, &driver, start().plus_ms(1000));
    let Commit::Applied(offered) = store.commit(&requested, &offer, None).await.unwrap() else {
        panic!("our own write was taken for somebody else's")
    };
    assert_eq!(offered.state.offer_seq, 1);
    assert!(proxy.calls().len() > 1, "the answer was lost");

    // A transaction, after the driver was read; the driver is then busy with this very dispatch.
    lose(&proxy, 1, 1);
    let accept = accept_step(&offered, &driver, start().plus_ms(2000));
    let Commit::Applied(accepted) = store.commit(&offered, &accept, None).await.unwrap() else {
        panic!("our own transaction was taken for somebody else's")
    };
    assert_eq!(accepted.state.status, Status::Accepted);
    assert!(proxy.calls().len() > 2, "the answer was lost");
    let stored = table.reload(&accepted).await;
    assert_eq!(stored.item.events.len(), 3, "nothing was written twice");
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
    assert!(matches!(error, dispatch_runtime::port::PortError::Unavailable { .. }), "{error:?}");
    // The write took place all the same: a later reader finds it, and the step is not decided twice.
    assert_eq!(table.reload(&requested).await.state.offer_seq, 1);
}
