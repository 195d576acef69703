//! Rate limits of callers: token buckets for subjects and for addresses. They are local to this process, so they work
//! while every other service is down. A bucket is one number (generic cell rate algorithm): the time when it will be
//! full again.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName};
use dispatch_api::worker_config::{LimitsConfig, RateConfig};
use tokio::time::Instant;

/// Maximum buckets of each kind: with about 100 bytes each, they take 10 MB. Full buckets are removed when it is
/// reached.
const BUCKETS_MAX: usize = 100_000;
/// Minimum time between two removals of full buckets, because each of them visits all buckets.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// The rate of an operations caller as a multiple of a person's: gateways of fleets and consoles act for many people.
const OPERATIONS_SHARE: u32 = 10;

/// The owner of a bucket, by the token's subject.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Subject<'a> {
    /// A user or driver.
    Person(&'a str),
    Operations(&'a str),
}

/// All buckets of a process.
pub struct Rates {
    persons: Buckets<String>,
    operations: Buckets<String>,
    addresses: Buckets<IpAddr>,
    address_header: Option<HeaderName>,
    /// Proxies that add an entry to the header.
    address_hops: usize,
    address_share_percent: usize,
}

impl Rates {
    /// Buckets of the configured sizes, all of them full.
    pub fn new(limits: &LimitsConfig) -> Self {
        let RateConfig { per_second, burst } = limits.per_subject;
        let more = RateConfig {
            per_second: per_second.saturating_mul(OPERATIONS_SHARE),
            burst: burst.saturating_mul(OPERATIONS_SHARE),
        };
        Self {
            persons: Buckets::new(limits.per_subject),
            operations: Buckets::new(more),
            addresses: Buckets::new(limits.per_address),
            address_header: limits.client_address_header.as_ref().and_then(|name| name.parse().ok()),
            address_hops: limits.client_address_hops.into(),
            address_share_percent: limits.address_share_percent.into(),
        }
    }

    /// Takes one request from the bucket of a subject. Fails with the seconds until the next request is allowed.
    pub(super) fn take_subject(&self, subject: Subject<'_>) -> Result<(), u64> {
        match subject {
            Subject::Person(subject) => self.persons.take(subject.to_owned()),
            Subject::Operations(subject) => self.operations.take(subject.to_owned()),
        }
    }

    /// Takes one request from the bucket of a network. Fails with the seconds until the next request is allowed.
    pub(super) fn take_network(&self, network: IpAddr) -> Result<(), u64> {
        self.addresses.take(network)
    }

    /// The part of `places` that one client address may hold.
    pub fn address_share(&self, places: usize) -> usize {
        (places.saturating_mul(self.address_share_percent) / 100).max(1)
    }

    /// The network of the client's address.
    pub(super) fn client_network(&self, headers: &HeaderMap, peer: Option<IpAddr>) -> Option<IpAddr> {
        self.client_address(headers, peer).map(network_of)
    }

    /// The client's address: from the configured header of the proxies in front, if it is present, or else the peer
    /// address of the connection.
    ///
    /// Every proxy appends the address of its own client, on the same line or another one, so only the last entries are
    /// believed: one for each proxy. What comes before was sent by the client.
    fn client_address(&self, headers: &HeaderMap, peer: Option<IpAddr>) -> Option<IpAddr> {
        let said = self.address_header.as_ref().and_then(|name| {
            let lines: Vec<&str> = headers.get_all(name).iter().map(|line| line.to_str().unwrap_or_default()).collect();
            let mut entries = lines.iter().rev().flat_map(|line| line.rsplit(','));
            address(entries.nth(self.address_hops.saturating_sub(1))?)
        });
        said.or(peer)
    }
}

/// An address as proxies write it: with or without a port, an IPv6 address with or without brackets.
fn address(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim();
    let with_port = || entry.parse::<SocketAddr>().ok().map(|address| address.ip());
    let in_brackets = || entry.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    entry.parse().ok().or_else(with_port).or_else(in_brackets)
}

/// The network that belongs to one client: an IPv4 address, or the /64 from which an IPv6 client can choose its
/// addresses.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Buckets of one size.
struct Buckets<K> {
    /// Time in which a bucket regains one request, µs.
    interval_us: u64,
    /// How far in the future `full_at` may be for a request to be allowed, µs.
    tolerance_us: u64,
    begun: Instant,
    kept: Mutex<Bucket<K>>,
}

struct Bucket<K> {
    /// When each bucket will be full again, µs since `begun`.
    full_at: HashMap<K, u64>,
    /// The shared bucket of all keys for which there is no room.
    others_full_at: u64,
    swept: Instant,
}

impl<K: Eq + Hash> Buckets<K> {
    fn new(rate: RateConfig) -> Self {
        let interval_us = 1_000_000 / u64::from(rate.per_second.max(1));
        let begun = Instant::now();
        Self {
            interval_us,
            tolerance_us: interval_us * u64::from(rate.burst.saturating_sub(1)),
            begun,
            kept: Mutex::new(Bucket { full_at: HashMap::new(), others_full_at: 0, swept: begun }),
        }
    }

    fn take(&self, key: K) -> Result<(), u64> {
        let now = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut kept = self.kept.lock();
        let kept = &mut *kept;
        if kept.full_at.len() >= BUCKETS_MAX && kept.swept.elapsed() >= SWEEP_EVERY {
            kept.full_at.retain(|_, full_at| *full_at > now);
            kept.swept = Instant::now();
        }
        let full_at = if kept.full_at.len() < BUCKETS_MAX || kept.full_at.contains_key(&key) {
            kept.full_at.entry(key).or_insert(0)
        } else {
            &mut kept.others_full_at
        };
        let ahead = full_at.saturating_sub(now);
        if ahead > self.tolerance_us {
            return Err((ahead - self.tolerance_us).div_ceil(1_000_000));
        }
        *full_at = now + ahead + self.interval_us;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn rates() -> Rates {
        let rate = RateConfig { per_second: 2, burst: 3 };
        let client_address_header = Some("x-client-address".to_owned());
        Rates::new(&LimitsConfig {
            per_subject: rate,
            per_address: rate,
            client_address_header,
            client_address_hops: 1,
            address_share_percent: 50,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_allows_its_burst_and_then_its_rate() {
        let rates = rates();
        let take = |who| rates.take_subject(Subject::Person(who));
        for _ in 0..3 {
            assert_eq!(take("a"), Ok(()));
        }
        assert_eq!(take("a"), Err(1), "half a second, rounded up");
        assert_eq!(take("b"), Ok(()), "each subject has its own bucket");
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!((take("a"), take("a")), (Ok(()), Err(1)));
        for _ in 0..30 {
            assert_eq!(
                rates.take_subject(Subject::Operations("a")),
                Ok(()),
                "operations callers have ten times the rate"
            );
        }
        assert!(rates.take_subject(Subject::Operations("a")).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn keys_beyond_the_limit_share_one_bucket_and_take_no_memory() {
        let buckets = Buckets::new(RateConfig { per_second: 1, burst: 1 });
        for stranger in 0..BUCKETS_MAX {
            assert_eq!(buckets.take(stranger), Ok(()));
        }
        assert_eq!(buckets.take(usize::MAX), Ok(()));
        assert!(buckets.take(usize::MAX - 1).is_err(), "the shared bucket is empty");
        assert!(buckets.take(0).is_err(), "an existing bucket stays");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(buckets.take(usize::MAX), Ok(()));
        assert_eq!(buckets.kept.lock().full_at.len(), 1, "full buckets are removed");
    }

    #[test]
    fn the_address_comes_from_the_configured_header_and_a_network_is_one_client() {
        let rates = rates();
        let peer: IpAddr = "10.0.0.1".parse().unwrap();
        let said = |text: &str| {
            let header = (HeaderName::from_static("x-client-address"), text.parse().unwrap());
            let headers: HeaderMap = std::iter::once(header).collect();
            rates.client_address(&headers, Some(peer))
        };
        assert_eq!(said("203.0.113.7"), "203.0.113.7".parse().ok());
        assert_eq!(said("nonsense"), Some(peer));
        assert_eq!(rates.client_address(&HeaderMap::new(), Some(peer)), Some(peer));
        let one: IpAddr = "2001:db8:1:2:aaaa::1".parse().unwrap();
        assert_eq!(network_of(one), "2001:db8:1:2::".parse::<IpAddr>().unwrap());
        assert_eq!(network_of("::ffff:203.0.113.7".parse().unwrap()), "203.0.113.7".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn an_address_has_its_share_of_the_places() {
        let share = |percent| {
            let limits = LimitsConfig { address_share_percent: percent, ..LimitsConfig::default() };
            [227, 3072, 1].map(|places| Rates::new(&limits).address_share(places))
        };
        assert_eq!(share(50), [113, 1536, 1]);
        assert_eq!(share(100), [227, 3072, 1], "no limit");
        assert_eq!(share(1), [2, 30, 1], "at least one");
    }

    #[test]
    fn of_a_list_of_addresses_only_the_entries_of_trusted_proxies_are_believed() {
        let peer: IpAddr = "10.0.0.1".parse().unwrap();
        let said = |hops: u8, lines: &[&str]| {
            let client_address_header = Some("x-forwarded-for".to_owned());
            let limits = LimitsConfig { client_address_header, client_address_hops: hops, ..LimitsConfig::default() };
            let name = HeaderName::from_static("x-forwarded-for");
            let headers = lines.iter().map(|line| (name.clone(), HeaderValue::from_bytes(line.as_bytes()).unwrap()));
            Rates::new(&limits).client_address(&headers.collect(), Some(peer)).unwrap().to_string()
        };
        for (hops, lines, client) in [
            (1, &["203.0.113.7"][..], "203.0.113.7"),
            (1, &["198.51.100.1, 203.0.113.7"], "203.0.113.7"),
            (1, &["198.51.100.1", "203.0.113.7"], "203.0.113.7"),
            (1, &["evil", " 203.0.113.7 "], "203.0.113.7"),
            (1, &["198.51.100.1,,203.0.113.7"], "203.0.113.7"),
            (1, &["203.0.113.7:4711"], "203.0.113.7"),
            (1, &["[2001:db8::1]:4711"], "2001:db8::1"),
            (1, &["[2001:db8::1]"], "2001:db8::1"),
            (1, &["2001:db8::1"], "2001:db8::1"),
            (2, &["198.51.100.1, 203.0.113.7, 192.0.2.1"], "203.0.113.7"),
            (2, &["198.51.100.1, 203.0.113.7", "192.0.2.1"], "203.0.113.7"),
            (3, &["203.0.113.7, 192.0.2.2", "192.0.2.1"], "203.0.113.7"),
            // What cannot be read counts for the connection's own address.
            (2, &["203.0.113.7"], "10.0.0.1"),
            (1, &["203.0.113.7, evil"], "10.0.0.1"),
            (1, &["203.0.113.7, "], "10.0.0.1"),
            (1, &["203.0.113.7", ""], "10.0.0.1"),
            (1, &["203.0.113.7, \u{e9}"], "10.0.0.1"),
            (1, &[], "10.0.0.1"),
        ] {
            assert_eq!(said(hops, lines), client, "{hops} {lines:?}");
        }
    }

    proptest! {
        #[test]
        fn at_most_the_burst_and_the_rate_are_allowed(steps in proptest::collection::vec(0u64..400, 1..200)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let (passed, passed_ms) = runtime.block_on(async {
                let buckets = Buckets::new(RateConfig { per_second: 10, burst: 5 });
                let (mut passed, mut at) = (0_u64, 0);
                for step in steps {
                    tokio::time::advance(Duration::from_millis(step)).await;
                    at += step;
                    passed += u64::from(buckets.take(()).is_ok());
                }
                (passed, at)
            });
            prop_assert!(passed <= 5 + passed_ms / 100, "{passed} in {passed_ms} ms");
        }
    }
}
