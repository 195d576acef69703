//! The command line, checked while they are parsed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueHint};
use dispatch_core::geo::Coordinate;

/// Most drivers of one run; each is a task and a connection.
const DRIVERS_MAX: u32 = 20_000;

/// Most requests a second of one run.
const RATE_MAX: f64 = 1_000.0;

const EXAMPLES: &str = "\
Examples:
  A minute of traffic against a local system, with a summary for programs:
    export DISPATCH_SIGNING_KEY=.local/seoul/auth/signing-key.json
    dispatch-simulator --api http://127.0.0.1:8080 --drivers 300 --rate 2 --for 60s --summary summary.json
  The same city again, with drivers who are harder to please:
    dispatch-simulator --api http://127.0.0.1:8080 --seed 42 --accept-share 0.58 --reject-share 0.25
  Until Ctrl-C, against an environment behind an API Gateway:
    dispatch-simulator --api https://api.example.com --signing-key test-issuer.json

Exit codes:
  0    the auditor found nothing, and every request came to its end
  1    the run could not be made: the API cannot be reached, the summary cannot be written, or options contradict each other
  2    an option is wrong by itself
  3    the auditor found violations, which the summary lists
  130  interrupted; what the auditor could see by then was clean";

/// Play a city: drivers who drive and answer, users who ask and wait, all through the public HTTP API.
///
/// Equal seeds give equal cities: the same drivers, requests, answers and delays. What differs between two runs is how
/// fast the system is. Trips are shortened so that rides end within the run.
#[derive(Debug, Clone, Parser)]
#[command(name = "dispatch-simulator", version, after_help = EXAMPLES)]
pub struct Args {
    /// Address of the HTTP API
    #[arg(long, value_name = "URL", env = "DISPATCH_API", value_parser = api, value_hint = ValueHint::Url)]
    pub api: String,

    /// Key that signs the tokens of all drivers and users, as `dispatch-local keys` makes it; the API's issuer must have it
    #[arg(long, value_name = "FILE", env = "DISPATCH_SIGNING_KEY", value_hint = ValueHint::FilePath)]
    pub signing_key: PathBuf,

    /// Drivers on duty
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=i64::from(DRIVERS_MAX)))]
    pub drivers: u32,

    /// Requests a second, on average; arrivals are a Poisson process
    #[arg(long, default_value_t = 2.0, value_parser = rate)]
    pub rate: f64,

    /// Users who take turns at asking [default: those who ask within a minute, at least 20]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub users: Option<u32>,

    /// Time in which requests are made; until interrupted where it is left out
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub traffic: Option<Duration>,

    /// Seed of every random choice
    #[arg(long, default_value_t = 42)]
    pub seed: u64,

    /// Share of offers that drivers accept
    #[arg(long, default_value_t = 0.85, value_parser = share)]
    pub accept_share: f64,

    /// Share of offers that drivers reject; the rest they ignore
    #[arg(long, default_value_t = 0.10, value_parser = share)]
    pub reject_share: f64,

    /// Share of drivers who accept by themselves (`autoAccept`)
    #[arg(long, default_value_t = 0.20, value_parser = share)]
    pub auto_accept_share: f64,

    /// Median time to answer an offer; log-normal
    #[arg(long, value_name = "DURATION", default_value = "1500ms", value_parser = duration)]
    pub answer_delay: Duration,

    /// Share of users who cancel, half of them while they wait, half after a driver accepted
    #[arg(long, default_value_t = 0.04, value_parser = share)]
    pub cancel_share: f64,

    /// Share of rides that the driver cancels on the way to the pickup
    #[arg(long, default_value_t = 0.01, value_parser = share)]
    pub driver_cancel_share: f64,

    /// Median length of a trip; log-normal. The way to the pickup takes half of it
    #[arg(long, default_value_t = 6.0, value_parser = trip_seconds)]
    pub trip_seconds: f64,

    /// Time between two pings of a driver
    #[arg(long, value_name = "DURATION", default_value = "4s", value_parser = ping_interval)]
    pub ping_interval: Duration,

    /// Centre of the city, here Seoul's City Hall; the five districts lie around it
    #[arg(long, value_name = "LAT,LNG", default_value = "37.5663,126.9779", value_parser = coordinate,
        allow_hyphen_values = true)]
    pub city_center: Coordinate,

    /// Time after the last request in which every request must come to its end
    #[arg(long, value_name = "DURATION", default_value = "3m", value_parser = duration)]
    pub drain_timeout: Duration,

    /// Write the summary to this file too, as JSON
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub summary: Option<PathBuf>,

    /// Print the summary only
    #[arg(long)]
    pub quiet: bool,
}

impl Args {
    /// Users of the run: a ride takes well under a minute, so this many are free when they are needed again. More are made
    /// where that is not so.
    pub fn user_count(&self) -> u32 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the rate is positive and bounded")]
        let within_a_minute = (self.rate * 60.0).ceil() as u32;
        self.users.unwrap_or_else(|| within_a_minute.max(20))
    }

    /// What no single option can say: whether the shares of answers fit together.
    pub fn answers_fit(&self) -> bool {
        self.accept_share + self.reject_share <= 1.0 + f64::EPSILON
    }
}

fn api(text: &str) -> Result<String, String> {
    let url = reqwest::Url::parse(text).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") || url.query().is_some() || url.fragment().is_some() {
        return Err("an http or https address without a query is needed".to_owned());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "not a number".to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = number(text)?;
    if rate > 0.0 && rate <= RATE_MAX { Ok(rate) } else { Err("more than 0 and up to 1000 is allowed".to_owned()) }
}

fn share(text: &str) -> Result<f64, String> {
    let share = number(text)?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("0 to 1 is allowed".to_owned()) }
}

fn trip_seconds(text: &str) -> Result<f64, String> {
    let seconds = number(text)?;
    if (0.1..=3600.0).contains(&seconds) { Ok(seconds) } else { Err("0.1 to 3600 is allowed".to_owned()) }
}

/// `90s`, `5m`, `1h30m`, `500ms`.
fn duration(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration = text.parse().map_err(|_| "not a duration like 500ms, 60s or 5m".to_owned())?;
    match Duration::try_from(span) {
        Ok(length) if !length.is_zero() && length <= Duration::from_hours(24) => Ok(length),
        _ => Err("more than 0 and up to 24h is allowed".to_owned()),
    }
}

fn ping_interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    let bounds = Duration::from_millis(500)..=Duration::from_mins(5);
    if bounds.contains(&interval) { Ok(interval) } else { Err("500ms to 5m is allowed".to_owned()) }
}

fn coordinate(text: &str) -> Result<Coordinate, String> {
    let (lat, lng) = text.split_once(',').ok_or_else(|| "not LAT,LNG".to_owned())?;
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
    fn the_address_alone_is_enough() {
        let args = parse(&[]).unwrap();
        assert_eq!(args.api, "http://127.0.0.1:8080");
        assert_eq!((args.drivers, args.rate, args.seed, args.traffic), (300, 2.0, 42, None));
        assert_eq!(args.user_count(), 120);
        assert!(args.answers_fit());
    }

    #[test]
    fn durations_are_written_as_people_write_them() {
        let args = parse(&["--for", "1m30s", "--answer-delay", "250ms", "--drain-timeout", "2m"]).unwrap();
        assert_eq!(args.traffic, Some(Duration::from_secs(90)));
        assert_eq!(args.answer_delay, Duration::from_millis(250));
        assert_eq!(args.drain_timeout, Duration::from_mins(2));
    }

    #[test]
    fn values_out_of_bounds_are_refused_with_what_is_allowed() {
        for (words, says) in [
            (["--rate", "0"], "more than 0 and up to 1000"),
            (["--rate", "NaN"], "more than 0 and up to 1000"),
            (["--accept-share", "1.2"], "0 to 1 is allowed"),
            (["--for", "25h"], "more than 0 and up to 24h"),
            (["--for", "soon"], "not a duration"),
            (["--drivers", "0"], "1..=20000"),
            (["--city-center", "95,127"], "lat must be a number from -90 to 90"),
            (["--ping-interval", "1ms"], "500ms to 5m"),
        ] {
            let error = parse(&words).unwrap_err().to_string();
            assert!(error.contains(says), "{words:?}: {error}");
        }
        let error = api("ftp://x").unwrap_err();
        assert!(error.contains("an http or https address"), "{error}");
    }

    #[test]
    fn shares_of_answers_must_fit_together() {
        assert!(!parse(&["--accept-share", "0.9", "--reject-share", "0.2"]).unwrap().answers_fit());
        assert!(parse(&["--accept-share", "0.9", "--reject-share", "0.1"]).unwrap().answers_fit());
    }
}
