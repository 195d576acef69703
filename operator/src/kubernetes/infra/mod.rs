//! Infrastructure of the controller: clients of the API server and of AWS, leader election, events, metrics and health.

pub mod admin_port;
pub mod client_pool;
pub mod cluster;
pub mod election;
pub mod event_recorder;
pub mod fence;
pub mod health_server;
pub mod metric_labels;
pub mod metrics;
pub mod reconcile_cache;
pub mod secrets;
pub mod throttled;
pub mod timing;
pub mod watch_health;
