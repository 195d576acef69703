//! Drivers who are gone, on real processes.

use dispatch_core::policy::PresencePolicy;
use dispatch_tests::support::until;
use serde_json::Value;
use tokio::time::{Duration, sleep};

use crate::bench::Bench;

const SILENT_AFTER_MS: u64 = 6_000;
const DEACTIVATED: &str = "dispatch_drivers_deactivated_total{reason=\"silent\"}";
const PING_INTERVAL: Duration = Duration::from_millis(500);

async fn profile(bench: &Bench, driver: &str) -> Value {
    let items = bench.city.scan(&bench.city.config.table.name).await;
    items.into_iter().find(|item| item["PK"] == driver && item["SK"] == "PROFILE").expect("a profile")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_who_is_gone_becomes_inactive_and_comes_back() {
    let mut bench = Bench::open_with("presence", |config| {
        config.dispatch.presence.silent_after_ms = SILENT_AFTER_MS;
        assert_eq!(PresencePolicy::default().silent_after_ms, 600_000);
    })
    .await;
    let (_, gone) = bench.apps.people("gone").await;
    bench.apps.off_duty(&gone);
    let (_, present) = bench.apps.people("present").await;
    let event = bench.apps.first_event(&gone, "DRIVER_INACTIVE").await;
    let pinging = async {
        loop {
            bench.apps.ping().await;
            sleep(PING_INTERVAL).await;
        }
    };
    let event = tokio::select! {
        event = event => event,
        never = pinging => never,
    };
    assert!(event.contains("\"status\":\"INACTIVE\"") && !event.contains("dispatchId"), "{event}");
    assert_eq!(bench.worker.metric(DEACTIVATED).await, 1);
    let stored = profile(&bench, &gone).await;
    assert_eq!(stored["currentStatus"]["status"], "INACTIVE");
    assert_eq!(stored["GSI1PK"], "DRIVER#INACTIVE");
    assert_eq!(profile(&bench, &present).await["currentStatus"]["status"], "ACTIVE");
    let history = bench.city.scan(&bench.city.config.table.name).await;
    let entries = history.iter().filter(|item| item["PK"] == gone.as_str() && item["status"] == "INACTIVE");
    assert_eq!(entries.count(), 1);

    // The driver who is there gets the ride, and the other one the next ride after it has come back.
    let mut ride = bench.apps.ask("present").await;
    bench.apps.accept(&mut ride).await;
    assert_eq!(ride.driver, present);
    bench.apps.available("gone", "ACTIVE").await;
    let mut next = bench.apps.ask("gone").await;
    bench.apps.accept(&mut next).await;
    assert_eq!(next.driver, gone);
    for ride in [&ride, &next] {
        bench.apps.drive(ride).await;
    }
    bench.rides.extend([ride, next]);
    until("the end of the rides", async || {
        let busy = profile(&bench, &gone).await["currentStatus"]["currentDispatchId"].is_string();
        (!busy).then_some(())
    })
    .await;
    bench.audit().await;
}
