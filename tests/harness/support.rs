//! Small things the suites share.

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

/// Longest time to wait for what must happen.
const WITHIN: Duration = Duration::from_secs(30);

/// Seoul with the usual rules.
#[expect(clippy::unwrap_used, clippy::missing_panics_doc, reason = "the time zone database is linked in")]
pub fn seoul() -> City {
    let fare = FareTable { night_surcharges: Vec::new(), ..FareTable::default() };
    let (_, settings) = watch::channel(Arc::new(Settings::new(DispatchPolicy::default(), fare)));
    City::new("seoul", "KRW", TimeZone::get("Asia/Seoul").unwrap(), settings)
}

/// Settings of AWS clients for an emulator.
pub async fn sdk(endpoint: &str) -> SdkConfig {
    let nobody = Credentials::new("test", "test", None, None, "test");
    let loader = aws_config::defaults(BehaviorVersion::v2026_01_12()).region(Region::new(REGION));
    loader.endpoint_url(endpoint).credentials_provider(nobody).load().await
}

/// Asks until the answer is there.
///
/// # Panics
///
/// Where it does not come in time: the test has failed.
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
