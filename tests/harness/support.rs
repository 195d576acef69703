//! Helpers shared by the test suites.

use std::sync::Arc;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::config::Credentials;
use dispatch_core::fare::FareTable;
use dispatch_core::policy::DispatchPolicy;
use dispatch_runtime::city::{City, Settings};
use jiff::tz::TimeZone;
use tokio::sync::watch;

use crate::ministack::REGION;

/// Timeout of [`until`].
const WITHIN: Duration = Duration::from_secs(30);

/// Seoul with the default rules.
#[expect(clippy::unwrap_used, clippy::missing_panics_doc, reason = "the time zone database is linked in")]
pub fn seoul() -> City {
    let fare = FareTable { night_surcharges: Vec::new(), ..FareTable::default() };
    let (_, settings) = watch::channel(Arc::new(Settings::new(DispatchPolicy::default(), fare)));
    City::new("seoul", "KRW", TimeZone::get("Asia/Seoul").unwrap(), settings)
}

/// Configuration of AWS clients for an emulator.
pub async fn sdk(endpoint: &str) -> SdkConfig {
    let credentials = Credentials::new("test", "test", None, None, "test");
    let loader = aws_config::defaults(BehaviorVersion::v2026_01_12()).region(Region::new(REGION));
    loader.endpoint_url(endpoint).credentials_provider(credentials).load().await
}

/// Polls `ask` until it returns a value.
///
/// # Panics
///
/// If it returns none in time, which fails the test.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + WITHIN;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "{what} did not happen within {WITHIN:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
