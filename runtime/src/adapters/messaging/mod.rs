//! Queues, topic, devices and event streams.
//!
//! ```text
//! offer --+-> local timer --------------> time-out                           [dispatch-algorithm]
//!         \-> SQS offers (delayed) -----> time-out, if the process has ended
//! answer ---> SQS responses -----------> a notification for each side       [driver-response]
//! notification -> SNS topic -> SQS notifications -> Redis channel -> event streams of all replicas
//!                                                \-> SNS platform endpoint -> FCM -> device
//! ```

mod batcher;
mod consumer;
mod devices;
mod events;
#[cfg(any(test, feature = "testing"))]
pub mod fake;
mod local_timers;
mod queues;
mod topic;

pub use consumer::{Consumer, Handled, MessageHandler, Received};
pub use devices::{NOTIFICATION_LIVES_MS, SnsDevicePush};
pub use events::RedisEvents;
pub use local_timers::{LocalFirst, LocalTimers, TimerHandler};
pub use queues::{SqsDeadLetters, SqsResponses, SqsTimers};
pub use topic::{SnsNotifier, notification_of};
