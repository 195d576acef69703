//! The command-line options, validated while they are parsed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueHint};
use dispatch_core::geo::Coordinate;

/// Maximum drivers of one run: each is a task and a connection.
const DRIVERS_MAX: u32 = 20_000;

/// Maximum requests per second of one run.
const RATE_MAX: f64 = 1_000.0;

const EXAMPLES: &str = "\
Examples:
  One minute of traffic against a local city, with a JSON summary:
    export DISPATCH_SIGNING_KEY=.local/seoul/auth/signing-key.json
    dispatch-simulator --api http://127.0.0.1:8080 --drivers 300 --rate 2 --for 60s --summary summary.json
  The same city with drivers who accept fewer offers:
    dispatch-simulator --api http://127.0.0.1:8080 --seed 42 --accept-share 0.58 --reject-share 0.25
  Traffic until Ctrl-C, against an environment behind an API Gateway:
    dispatch-simulator --api https://api.example.com --signing-key test-issuer.json

Exit codes:
  0    every request ended, and the auditor found no violation
  1    the run failed: the API cannot be reached, the summary cannot be written, or options contradict each other
  2    an option is not valid
  3    the auditor found violations, which the summary lists
  130  the run was interrupted, and the auditor found no violation up to then";

/// Simulate the drivers and users of a city over the public HTTP API
///
/// Drivers send positions and answer offers; users request rides, wait and sometimes cancel. After the traffic, an
/// auditor reads every dispatch and reports what must never happen. The same seed gives the same drivers, requests,
/// answers and delays; only the speed of the system differs between two runs. Rides are shortened so that they end
/// within the run.
#[derive(Debug, Clone, Parser)]
#[command(name = "dispatch-simulator", version, after_help = EXAMPLES)]
pub struct Args {
    /// URL of the HTTP API
    #[arg(long, value_name = "URL", env = "DISPATCH_API", value_parser = api, value_hint = ValueHint::Url)]
    pub api: String,

    /// File of the key that signs the tokens of drivers and users, created with `dispatch-local keys`. The API must
    /// trust its issuer
    #[arg(long, value_name = "FILE", env = "DISPATCH_SIGNING_KEY", value_hint = ValueHint::FilePath)]
    pub signing_key: PathBuf,

    /// Number of drivers
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=i64::from(DRIVERS_MAX)))]
    pub drivers: u32,

    /// Average requests per second; arrivals are a Poisson process
    #[arg(long, default_value_t = 2.0, value_parser = rate)]
    pub rate: f64,

    /// Number of users, who take turns to request rides [default: the requests of one minute, at least 20]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub users: Option<u32>,

    /// Duration of the traffic [default: until interrupted]
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub traffic: Option<Duration>,

    /// Seed of every random choice
    #[arg(long, default_value_t = 42)]
    pub seed: u64,

    /// Share of offers that drivers accept
    #[arg(long, default_value_t = 0.85, value_parser = share)]
    pub accept_share: f64,

    /// Share of offers that drivers reject; they ignore the rest
    #[arg(long, default_value_t = 0.10, value_parser = share)]
    pub reject_share: f64,

    /// Share of drivers with automatic acceptance (`autoAccept`)
    #[arg(long, default_value_t = 0.20, value_parser = share)]
    pub auto_accept_share: f64,

    /// Median time to answer an offer (log-normal)
    #[arg(long, value_name = "DURATION", default_value = "1500ms", value_parser = duration)]
    pub answer_delay: Duration,

    /// Share of users who cancel: half of them while they wait, half after a driver accepted
    #[arg(long, default_value_t = 0.04, value_parser = share)]
    pub cancel_share: f64,

    /// Share of rides that drivers cancel on the way to the pickup
    #[arg(long, default_value_t = 0.01, value_parser = share)]
    pub driver_cancel_share: f64,

    /// Median duration of a trip, in seconds (log-normal). The drive to the pickup takes half as long
    #[arg(long, default_value_t = 6.0, value_parser = trip_seconds)]
    pub trip_seconds: f64,

    /// Time between two position reports of a driver
    #[arg(long, value_name = "DURATION", default_value = "4s", value_parser = ping_interval)]
    pub ping_interval: Duration,

    /// Centre of the city, around which five districts are placed; the default is Seoul City Hall
    #[arg(long, value_name = "LAT,LNG", default_value = "37.5663,126.9779", value_parser = coordinate,
        allow_hyphen_values = true)]
    pub city_center: Coordinate,

    /// Time after the last request within which every request must end
    #[arg(long, value_name = "DURATION", default_value = "3m", value_parser = duration)]
    pub drain_timeout: Duration,

    /// How long a call is retried while the service is unavailable. A request that is refused for so long is counted,
    /// and no violation
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub patience: Duration,

    /// Also write the summary to this file, as JSON
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub summary: Option<PathBuf>,

    /// Print only the summary
    #[arg(long)]
    pub quiet: bool,
}

impl Args {
    /// The number of users at the start. A ride takes much less than a minute, so the requests of one minute find a
    /// free user each. If none is free, a new user is created.
    pub fn user_count(&self) -> u32 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the rate is positive and bounded")]
        let within_a_minute = (self.rate * 60.0).ceil() as u32;
        self.users.unwrap_or_else(|| within_a_minute.max(20))
    }

    /// Whether the shares of accepted and rejected offers add up to at most 1.
    pub fn answers_fit(&self) -> bool {
        self.accept_share + self.reject_share <= 1.0 + f64::EPSILON
    }
}

fn api(text: &str) -> Result<String, String> {
    let url = reqwest::Url::parse(text).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") || url.query().is_some() || url.fragment().is_some() {
        return Err("must be an http or https URL without a query".to_owned());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "must be a number".to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = number(text)?;
    if rate > 0.0 && rate <= RATE_MAX { Ok(rate) } else { Err("must be greater than 0 and at most 1000".to_owned()) }
}

fn share(text: &str) -> Result<f64, String> {
    let share = number(text)?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("must be from 0 to 1".to_owned()) }
}

fn trip_seconds(text: &str) -> Result<f64, String> {
    let seconds = number(text)?;
    if (0.1..=3600.0).contains(&seconds) { Ok(seconds) } else { Err("must be from 0.1 to 3600".to_owned()) }
}

/// Parses `90s`, `5m`, `1h30m`, `500ms`.
fn duration(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration =
        text.parse().map_err(|_| "must be a duration such as 500ms, 60s or 5m".to_owned())?;
    match Duration::try_from(span) {
        Ok(length) if !length.is_zero() && length <= Duration::from_hours(24) => Ok(length),
        _ => Err("must be longer than 0 and at most 24h".to_owned()),
    }
}

fn ping_interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    let bounds = Duration::from_millis(500)..=Duration::from_mins(5);
    if bounds.contains(&interval) { Ok(interval) } else { Err("must be from 500ms to 5m".to_owned()) }
}

fn coordinate(text: &str) -> Result<Coordinate, String> {
    let (lat, lng) = text.split_once(',').ok_or_else(|| "must be LAT,LNG".to_owned())?;
    Coordinate::new(number(lat.trim())?, number(lng.trim())?).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Args, clap::Error> {
        let all = ["dispatch-simulator", "--api", "http://127.0.0.1:8080/", "--signing-key", "key.json"]
            .into_iter()
            .chain(words.iter().copied());
        Args::try_parse_from(all)
    }

    #[test]
    fn only_the_url_and_the_key_are_required() {
        let args = parse(&[]).unwrap();
        assert_eq!(args.api, "http://127.0.0.1:8080");
        assert_eq!((args.drivers, args.rate, args.seed, args.traffic), (300, 2.0, 42, None));
        assert_eq!(args.user_count(), 120);
        assert!(args.answers_fit());
    }

    #[test]
    fn durations_have_units() {
        let args = parse(&["--for", "1m30s", "--answer-delay", "250ms", "--drain-timeout", "2m"]).unwrap();
        assert_eq!(args.traffic, Some(Duration::from_secs(90)));
        assert_eq!(args.answer_delay, Duration::from_millis(250));
        assert_eq!(args.drain_timeout, Duration::from_mins(2));
    }

    #[test]
    fn values_out_of_range_are_rejected_with_the_rule() {
        for (words, says) in [
            (["--rate", "0"], "must be greater than 0 and at most 1000"),
            (["--rate", "NaN"], "must be greater than 0 and at most 1000"),
            (["--accept-share", "1.2"], "must be from 0 to 1"),
            (["--for", "25h"], "must be longer than 0 and at most 24h"),
            (["--for", "soon"], "must be a duration such as"),
            (["--drivers", "0"], "1..=20000"),
            (["--city-center", "95,127"], "lat must be a number from -90 to 90"),
            (["--ping-interval", "1ms"], "must be from 500ms to 5m"),
        ] {
            let error = parse(&words).unwrap_err().to_string();
            assert!(error.contains(says), "{words:?}: {error}");
        }
        let error = api("ftp://x").unwrap_err();
        assert!(error.contains("an http or https URL"), "{error}");
    }

    #[test]
    fn shares_of_answers_must_not_exceed_one() {
        assert!(!parse(&["--accept-share", "0.9", "--reject-share", "0.2"]).unwrap().answers_fit());
        assert!(parse(&["--accept-share", "0.9", "--reject-share", "0.1"]).unwrap().answers_fit());
    }
}
