use dispatch_core::policy::{CancellationPolicy, MatchingMode, MatchingPolicy, PresencePolicy, RidePolicy};
use dispatch_core::service_area::ServiceArea;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn fare() -> FareTable {
    FareTable {
        night_surcharges: vec![NightSurcharge { from_minute: 1320, to_minute: 240, percent: 20 }],
        ..FareTable::default()
    }
}

#[cfg(feature = "crd")]
#[test]
fn a_manifest_without_rules_has_the_defaults_of_core() {
    let minimal = crate::manifest::read_manifests(include_str!("../../../../examples/minimal.yaml")).unwrap();
    let system = crate::validate::ValidatedSystem::try_from_raw(&minimal[0]).unwrap();
    let privacy = DispatchConfig::from_validated(&system).privacy.policy();
    assert_eq!(privacy, dispatch_core::privacy::PrivacyPolicy::default());
    assert_eq!((system.policy, system.fare), (DispatchPolicy::default(), FareTable::default()));
}

fn config(dispatch: DispatchConfig) -> WorkerConfig {
    let url = |queue: &str| format!("http://127.0.0.1:4566/000000000000/coactus-default-seoul-{queue}");
    WorkerConfig {
        version: WORKER_CONFIG_VERSION,
        system: "default/seoul".to_owned(),
        city: "seoul".to_owned(),
        timezone: "Asia/Seoul".to_owned(),
        currency: "KRW".to_owned(),
        aws: AwsEndpoint { region: "ap-northeast-2".to_owned(), endpoint_url: None },
        table: TableConfig {
            name: "coactus-default-seoul".to_owned(),
            stream_arn: "arn:aws:dynamodb:ap-northeast-2:111122223333:table/coactus-default-seoul/stream/1".to_owned(),
            gsi1_shards: 1,
        },
        lease_table: "coactus-default-seoul-leases".to_owned(),
        queues: QueuesConfig {
            offers_url: url("offers"),
            offers_dead_letters_url: url("offers-dlq"),
            responses_url: url("responses"),
            notifications_url: url("notifications"),
        },
        notifications: NotificationsConfig {
            topic_arn: "arn:aws:sns:ap-northeast-2:111122223333:coactus-default-seoul-notifications".to_owned(),
            platform_application_arn: None,
        },
        cache: CacheConfig { url: "redis://127.0.0.1:6379".to_owned(), auth_token_env: None },
        auth: Some(AuthConfig {
            issuer: "https://login.example.com/".to_owned(),
            audiences: vec!["dispatch".to_owned()],
            jwks_url: Some("https://login.example.com/.well-known/jwks.json".to_owned()),
            jwks_file: None,
            claims: ClaimsConfig::default(),
        }),
        limits: LimitsConfig::default(),
        dispatch,
    }
}

fn default() -> WorkerConfig {
    config(DispatchConfig::new(&DispatchPolicy::default(), &fare()))
}

/// The default document with `value` at the JSON pointer `at`.
fn changed(at: &str, value: serde_json::Value) -> String {
    let mut document = serde_json::to_value(default()).unwrap();
    match document.pointer_mut(at) {
        Some(place) => *place = value,
        None => document[at.trim_start_matches('/')] = value,
    }
    document.to_string()
}

#[test]
fn a_document_of_another_version_is_refused_by_version() {
    let mut document = serde_json::to_value(default()).unwrap();
    document["version"] = json!(WORKER_CONFIG_VERSION + 1);
    document["somethingNew"] = json!(true);
    let error = WorkerConfig::read(&document.to_string()).unwrap_err();
    assert_eq!(error.to_string(), "the worker configuration has version 2; this program supports version 1");
}

#[test]
fn a_broken_document_names_the_field() {
    for (at, value, expected) in [
        ("/dispatch/maxCandidates", json!("five"), "cannot be read at dispatch.maxCandidates"),
        ("/queues/offersUrl", json!(1), "cannot be read at queues.offersUrl"),
        ("/extra", json!(1), "cannot be read at extra"),
        ("/timezone", json!("Asia/Soul"), "is invalid at timezone: \"Asia/Soul\""),
        ("/table/gsi1Shards", json!(0), "is invalid at table.gsi1Shards: 0"),
        ("/cache/url", json!("redis://user:hunter2@h"), "is invalid at cache.url"),
        ("/auth/audiences", json!([]), "is invalid at auth.audiences"),
        ("/auth/jwksUrl", json!("http://login.example.com/keys"), "is invalid at auth.jwksUrl"),
        ("/auth/jwksUrl", json!("https://user:hunter2@h/keys"), "is invalid at auth.jwksUrl"),
        ("/auth", json!({"issuer": "https://a", "audiences": ["a"]}), "is invalid at auth.jwksUrl"),
        ("/auth/claims", json!({"user": "rider", "operations": "rider"}), "is invalid at auth.claims"),
        ("/limits/perSubject", json!({"perSecond": 0, "burst": 1}), "is invalid at limits.perSubject"),
        ("/limits", json!({"clientAddressHeader": "a b"}), "is invalid at limits.clientAddressHeader"),
        ("/limits", json!({"clientAddressHops": 0}), "is invalid at limits.clientAddressHops"),
        ("/limits", json!({"addressSharePercent": 101}), "is invalid at limits.addressSharePercent"),
        (
            "/dispatch/offerTimeoutMs",
            json!(1000),
            "is invalid at dispatch: offerTimeoutSeconds is 1, allowed is 5 to 900",
        ),
        (
            "/dispatch/eta",
            json!({"timeoutMs": 300, "topK": 20, "router": {"kind": "OSRM", "url": "http://me:hunter2@osrm"}}),
            "is invalid at dispatch.eta.router.url",
        ),
        ("/dispatch/eta/topK", json!(0), "is invalid at dispatch: eta.topK is 0, allowed is 1 to 50"),
        ("/dispatch/matching/mode", json!("Random"), "cannot be read at dispatch.matching.mode"),
        (
            "/dispatch/matching/windowMs",
            json!(5001),
            "is invalid at dispatch: matching.windowMilliseconds is 5001, allowed is 500 to 5000",
        ),
        (
            "/dispatch/rides/maxSpeedKmh",
            json!(301),
            "is invalid at dispatch: rides.maxSpeedKmh is 301, allowed is 30 to 300",
        ),
        ("/dispatch/fare/perTimeS", json!(0), "is invalid at dispatch.fare: fare.perTimeSeconds is 0"),
    ] {
        let error = WorkerConfig::read(&changed(at, value)).unwrap_err();
        let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        let text = format!("{error}{source}");
        assert!(text.contains(expected), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
    assert!(matches!(WorkerConfig::read(""), Err(WorkerConfigError::Shape { .. })));
    let twice = default().to_json_pretty().unwrap().repeat(2);
    assert!(matches!(WorkerConfig::read(&twice), Err(WorkerConfigError::Shape { .. })));
}

#[test]
fn an_invalid_service_area_is_refused_with_its_place() {
    let mut broken = default();
    broken.dispatch.service_area = Some(vec![vec![vec![vec![0.0, 0.0], vec![1.0, 0.0], vec![0.0, 0.0]]]]);
    let error = WorkerConfig::read(&broken.to_json_pretty().unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "the worker configuration is invalid at dispatch.serviceArea");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.starts_with("[0][0] a ring must have at least 4 positions"), "{source}");
}

prop_compose! {
    fn policies()(
        max_candidates in 1u8..=50,
        max_attempts in 1u8..=50,
        offer_timeout_s in 5u64..=900,
        search_budget_s in 0u64..=900,
        rings in proptest::collection::btree_set(100u32..=100_000, 1..=8),
        distance_bucket_m in 0u32..=5000,
        stale_after_s in 5u64..=3600,
        rest_s in (0u64..=3600, 0u64..=3600),
        acceptance_window_days in 1u8..=30,
        auto_accept: bool,
        exploration_share_percent in 0u8..=50,
        eta in (50u64..=2000, 1u8..=50),
        (batched, window_ms) in (any::<bool>(), 500u64..=5000),
        bounds in (30u32..=300, 100u32..=1000, 100u32..=100_000),
        silent_s in (5u64..=86_400, 5u64..=86_400),
        presence in (5u64..=86_400, 0u8..=20),
        cancellations in (0u8..=20, 60u64..=86_400, 10u64..=86_400, 0u8..=50),
        longest_trip_m in 1000u32..=20_100_000,
    ) -> DispatchPolicy {
        DispatchPolicy {
            max_candidates,
            max_attempts,
            offer_timeout_ms: offer_timeout_s * 1000,
            search_budget_ms: search_budget_s * 1000,
            search_rings_m: rings.into_iter().collect(),
            distance_bucket_m,
            stale_after_ms: stale_after_s * 1000,
            cool_down_after_reject_ms: rest_s.0 * 1000,
            cool_down_after_timeout_ms: rest_s.1 * 1000,
            acceptance_window_days,
            auto_accept,
            exploration_share_percent,
            eta_timeout_ms: eta.0,
            eta_top_k: eta.1,
            matching: MatchingPolicy {
                mode: if batched { MatchingMode::Batched } else { MatchingMode::Sequential },
                window_ms,
            },
            rides: RidePolicy {
                max_speed_kmh: bounds.0,
                max_fare_percent: bounds.1,
                destination_radius_m: bounds.2,
                silent_after_ms: silent_s.0 * 1000,
                end_silent_after_ms: silent_s.1 * 1000,
            },
            cancellations: CancellationPolicy {
                cool_down_after: cancellations.0,
                window_ms: cancellations.1 * 1000,
                cool_down_ms: cancellations.2 * 1000,
                daily_max: cancellations.3,
            },
            longest_trip_m,
            presence: PresencePolicy { silent_after_ms: presence.0 * 1000, unanswered_offers: presence.1 },
        }
    }
}

prop_compose! {
    fn fares()(
        money in (0u32..=10_000_000, 0u32..=1_000_000, 0u32..=1_000_000, 1u32..=1_000_000),
        steps in (0u32..=1_000_000, 1u32..=1_000_000, 1u32..=86_400),
        nights in proptest::collection::vec((0u16..1440, 0u16..1440, 1u32..=200), 0..=4),
        road_factor_percent in 100u32..=300,
        average_speed_kmh in 1u32..=200,
    ) -> FareTable {
        let night = |(from_minute, to_minute, percent)| NightSurcharge { from_minute, to_minute, percent };
        FareTable {
            base: money.0,
            base_distance_m: steps.0,
            per_distance: money.1,
            per_distance_m: steps.1,
            per_time: money.2,
            per_time_s: steps.2,
            night_surcharges: nights.into_iter().map(night).collect(),
            road_factor_percent,
            average_speed_kmh,
            round_to: money.3,
        }
    }
}

proptest! {
    #[test]
    fn workers_read_what_the_operator_writes(policy in policies(), fare in fares()) {
        let written = config(DispatchConfig::new(&policy, &fare));
        let read = WorkerConfig::read(&written.to_json_pretty().unwrap()).unwrap();
        prop_assert_eq!(read.dispatch.policy().unwrap(), policy);
        prop_assert_eq!(read.dispatch.fare_table().unwrap(), fare);
        prop_assert_eq!(read, written);
    }

    #[test]
    fn workers_read_the_service_area_that_the_operator_writes(
        west in -18_000_000i32..17_900_000,
        south in -9_000_000i32..8_900_000,
    ) {
        // Five digits, a metre.
        let degrees = |number: i32| f64::from(number) / 100_000.0;
        let (east, north) = (degrees(west + 50_000), degrees(south + 25_000));
        let (west, south) = (degrees(west), degrees(south));
        let ring = vec![vec![west, south], vec![east, south], vec![east, north], vec![west, south]];
        let area = ServiceArea::from_polygons(&[vec![ring]]).unwrap();
        let mut written = default();
        written.dispatch.service_area = Some(area.polygons());
        let read = WorkerConfig::read(&written.to_json_pretty().unwrap()).unwrap();
        prop_assert_eq!(read.dispatch.checked_area().unwrap(), Some(area));
        prop_assert_eq!(read, written);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in ".{0,200}") {
        prop_assert!(WorkerConfig::read(&text).is_err());
    }
}
