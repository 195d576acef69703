//! Writes whose answers are lost on the way: a proxy hands each request on and cuts the connection instead of handing the answer back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use dispatch_core::dispatch::Status;
use dispatch_runtime::port::{Commit, Created, DispatchStore as _};
use dispatch_runtime::store::DynamoStore;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::dynamodb::{Aws, DynamoTable};
use super::table::{Table, accept_step, new_dispatch, offer_step, start};
use crate::support::seoul;

/// A proxy that loses answers.
struct Proxy {
    endpoint: String,
    losses: Arc<Losses>,
}

/// Which answers are lost: the first `skip` pass, the next `lose` do not.
#[derive(Default)]
struct Losses {
    skip: AtomicU32,
    lose: AtomicU32,
    lost: AtomicU32,
}

impl Losses {
    fn take(counter: &AtomicU32) -> bool {
        counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    }

    fn loses_this_one(&self) -> bool {
        let lost = !Self::take(&self.skip) && Self::take(&self.lose);
        self.lost.fetch_add(u32::from(lost), Ordering::SeqCst);
        lost
    }
}

impl Proxy {
    async fn start(upstream: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let losses = Arc::new(Losses::default());
        let shared = losses.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(upstream.trim_start_matches("http://")).await.unwrap();
                tokio::spawn(pass_on(client, server, shared.clone()));
            }
        });
        Self { endpoint, losses }
    }

    /// Lets `skip` answers pass, then loses `lose`.
    fn lose(&self, skip: u32, lose: u32) {
        self.losses.lost.store(0, Ordering::SeqCst);
        self.losses.skip.store(skip, Ordering::SeqCst);
        self.losses.lose.store(lose, Ordering::SeqCst);
    }

    fn lost(&self) -> u32 {
        self.losses.lost.load(Ordering::SeqCst)
    }
}

/// One connection. An answer begins with the first bytes after a request; small answers come in few pieces, so whether the
/// connection lives is decided at the first piece after each request.
async fn pass_on(client: TcpStream, server: TcpStream, losses: Arc<Losses>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (mut request, mut answer) = (vec![0; 65_536], vec![0; 65_536]);
    let mut asked = false;
    loop {
        tokio::select! {
            read = from_client.read(&mut request) => match read {
                Ok(1..) if to_server.write_all(&request[..read.unwrap_or_default()]).await.is_ok() => asked = true,
                _ => return,
            },
            read = from_server.read(&mut answer) => {
                let count = read.unwrap_or_default();
                if count == 0 || (asked && losses.loses_this_one()) {
                    return;
                }
                asked = false;
                if to_client.write_all(&answer[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// A store on the same table whose answers go through the proxy. The SDK tries each call once, so that every loss reaches the store.
fn behind(proxy: &Proxy, table: &DynamoTable) -> DynamoStore {
    let config = table.client.config().to_builder().endpoint_url(&proxy.endpoint).retry_config(RetryConfig::disabled());
    DynamoStore::new(Client::from_conf(config.build()), &table.name, 1, seoul())
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_found_to_be_ours() {
    let aws = Aws::start().await;
    let table = aws.table(1).await;
    let Table::Dynamo(dynamo) = &table else { panic!("not a DynamoDB table") };
    let proxy = Proxy::start(aws.endpoint()).await;
    let store = behind(&proxy, dynamo);
    let (user, driver) = (table.add_user("user#1").await, table.add_driver("driver#1").await);

    // The request itself: stored by the first try, met by the second.
    proxy.lose(0, 1);
    let created = store.create(new_dispatch("dispatch#1", &user, start())).await.unwrap();
    let Created::Existed(requested) = created else { panic!("the second try did not meet the first") };
    assert_eq!(proxy.lost(), 1);

    // An update of the dispatch alone.
    proxy.lose(0, 1);
    let offer = offer_step(&requested, &driver, start().plus_ms(1000));
    let Commit::Applied(offered) = store.commit(&requested, &offer, None).await.unwrap() else {
        panic!("our own write was taken for somebody else's")
    };
    assert_eq!((offered.state.offer_seq, proxy.lost()), (1, 1));

    // A transaction, after the driver was read; the driver is then busy with this very dispatch.
    proxy.lose(1, 1);
    let accept = accept_step(&offered, &driver, start().plus_ms(2000));
    let Commit::Applied(accepted) = store.commit(&offered, &accept, None).await.unwrap() else {
        panic!("our own transaction was taken for somebody else's")
    };
    assert_eq!((accepted.state.status, proxy.lost()), (Status::Accepted, 1));
    let stored = table.reload(&accepted).await;
    assert_eq!(stored.item.events.len(), 3, "nothing was written twice");
}

#[tokio::test]
async fn a_service_that_never_answers_is_not_possible_right_now() {
    let aws = Aws::start().await;
    let table = aws.table(1).await;
    let Table::Dynamo(dynamo) = &table else { panic!("not a DynamoDB table") };
    let proxy = Proxy::start(aws.endpoint()).await;
    let (user, driver) = (table.add_user("user#1").await, table.add_driver("driver#1").await);
    let requested = table.request("dispatch#1", &user, start()).await;
    proxy.lose(0, u32::MAX);
    let offer = offer_step(&requested, &driver, start().plus_ms(1000));
    let store = behind(&proxy, dynamo);
    let answer = tokio::time::timeout(Duration::from_secs(10), store.commit(&requested, &offer, None));
    let error = answer.await.expect("the tries are bounded").err().expect("nothing was answered");
    assert!(matches!(error, dispatch_runtime::port::PortError::Unavailable { .. }), "{error:?}");
    // The write took place all the same: a later reader finds it, and the step is not decided twice.
    assert_eq!(table.reload(&requested).await.state.offer_seq, 1);
}
