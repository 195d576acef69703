//! Wall-clock time.

use dispatch_core::time::EpochMs;

/// The current time by the machine's clock.
#[expect(clippy::disallowed_methods, reason = "tokens and positions have times of the machine's clock")]
pub(crate) fn wall_clock() -> EpochMs {
    EpochMs(jiff::Timestamp::now().as_millisecond())
}

/// Parses a timestamp of the API.
pub(crate) fn parse_timestamp(text: &str) -> Option<EpochMs> {
    text.parse::<jiff::Timestamp>().ok().map(|at| EpochMs(at.as_millisecond()))
}
