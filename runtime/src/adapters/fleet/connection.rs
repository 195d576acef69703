//! A multiplexed connection that replaces itself: when it breaks, when the server stops answering, and when the
//! generation of the [`RedisConnector`] ends.
//!
//! The client library's own manager keeps a connection for as long as it does not break. It would stay on a demoted
//! primary or a vanished machine, and keep a password that the server no longer accepts.

use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Cmd, Pipeline, RedisError, RedisFuture, Value};
use tokio::time::Instant;

use crate::adapters::fleet::connect::{RESPONSE_TIMEOUT, RedisConnector};

/// Shortest time between the beginnings of two attempts to connect.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(100);

/// Consecutive calls without an answer after which the server counts as gone. One is a busy moment; a machine that
/// vanished would otherwise be believed until TCP gives up, a quarter of an hour later.
const TIMEOUTS_MAX: u32 = 3;

type Connecting = Shared<BoxFuture<'static, Result<MultiplexedConnection, RedisError>>>;

/// One attempt to connect, and the connection it led to.
#[derive(Clone)]
struct Attempt {
    number: u64,
    generation: u64,
    connecting: Connecting,
}

#[derive(Default)]
struct Slot {
    attempt: Option<Attempt>,
    /// Number and beginning of the last attempt.
    last: u64,
    begun: Option<Instant>,
    timeouts: u32,
}

/// The connection. Clones share it.
#[derive(Clone)]
pub(crate) struct Connection {
    connector: RedisConnector,
    slot: Arc<Mutex<Slot>>,
}

impl Connection {
    /// Connects at its first use.
    pub(crate) fn new(connector: RedisConnector) -> Self {
        Self { connector, slot: Arc::default() }
    }

    /// The current attempt. Concurrent callers wait for the same one.
    fn attempt(&self) -> Attempt {
        let generation = self.connector.generation();
        let mut slot = self.slot.lock();
        if let Some(attempt) = slot.attempt.as_ref().filter(|attempt| attempt.generation == generation) {
            return attempt.clone();
        }
        let pause = slot.begun.map_or(Duration::ZERO, |begun| ATTEMPT_PAUSE.saturating_sub(begun.elapsed()));
        let connector = self.connector.clone();
        let connecting = async move {
            tokio::time::sleep(pause).await;
            connector.connect(RESPONSE_TIMEOUT).await
        };
        slot.last += 1;
        let attempt = Attempt { number: slot.last, generation, connecting: connecting.boxed().shared() };
        *slot =
            Slot { attempt: Some(attempt.clone()), last: slot.last, begun: Some(Instant::now() + pause), timeouts: 0 };
        attempt
    }

    async fn connect(&self) -> Result<(Attempt, MultiplexedConnection), RedisError> {
        let attempt = self.attempt();
        match attempt.connecting.clone().await {
            Ok(connection) => Ok((attempt, connection)),
            Err(error) => {
                self.forget(attempt.number);
                self.connector.judge(attempt.generation, &error);
                Err(error)
            }
        }
    }

    /// The next call connects again.
    fn forget(&self, attempt: u64) {
        let mut slot = self.slot.lock();
        if slot.attempt.as_ref().is_some_and(|current| current.number == attempt) {
            slot.attempt = None;
        }
    }

    /// Draws the conclusions from the answer to a call. `refusal` is the first error reply in it.
    fn conclude<T>(&self, attempt: &Attempt, answer: Result<&T, &RedisError>, refusal: Option<RedisError>) {
        match answer {
            Ok(_) => {
                self.slot.lock().timeouts = 0;
                if let Some(refusal) = refusal {
                    self.connector.judge(attempt.generation, &refusal);
                }
            }
            Err(error) if error.is_timeout() => {
                let mut slot = self.slot.lock();
                slot.timeouts += 1;
                if slot.timeouts >= TIMEOUTS_MAX {
                    slot.timeouts = 0;
                    drop(slot);
                    self.connector.end_generation(attempt.generation, "timeout");
                }
            }
            Err(error) => {
                if error.is_io_error() || error.is_unrecoverable_error() {
                    self.forget(attempt.number);
                }
                self.connector.judge(attempt.generation, error);
            }
        }
    }
}

/// The error of an error reply.
fn refusal(value: &Value) -> Option<RedisError> {
    let Value::ServerError(error) = value else { return None };
    Some(error.clone().into())
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            let (attempt, mut connection) = self.connect().await?;
            let answer = connection.send_packed_command(cmd).await;
            self.conclude(&attempt, answer.as_ref(), answer.as_ref().ok().and_then(refusal));
            answer
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            let (attempt, mut connection) = self.connect().await?;
            let answer = connection.send_packed_commands(pipeline, offset, count).await;
            let first = answer.as_ref().ok().and_then(|values| values.iter().find_map(refusal));
            self.conclude(&attempt, answer.as_ref(), first);
            answer
        })
    }

    fn get_db(&self) -> i64 {
        0
    }
}
