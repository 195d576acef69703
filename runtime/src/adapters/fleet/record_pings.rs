//! Records many pings with one script call.

use std::fmt::Write as _;
use std::sync::Arc;

use dispatch_core::ids::DispatchId;
use dispatch_core::time::EpochMs;
use redis::{Cmd, ErrorKind, RedisError, Script, ServerErrorKind};

use crate::adapters::fleet::connect::RedisConnector;
use crate::adapters::fleet::connection::Connection;
use crate::adapters::fleet::keys::Keys;
use crate::adapters::fleet::{DRIVER_TTL_MS, fresh_since};
use crate::city::City;
use crate::ports::{Clock, Ping, PingOutcome};

/// Stale drivers dropped per call: more than become stale between two calls, few enough not to delay one.
const STALE_DROPPED_MAX: usize = 100;

/// Arguments before the pings, and per ping.
const ARGUMENTS: (usize, usize) = (16, 5);
/// Approximate size of a ping's arguments, bytes.
const PING_BYTES: usize = 110;

/// Sends pings to Redis.
pub(super) struct PingRecorder {
    pub(super) connector: RedisConnector,
    pub(super) connection: Connection,
    pub(super) script: Script,
    pub(super) keys: Keys,
    pub(super) city: City,
    pub(super) clock: Arc<dyn Clock>,
}

impl PingRecorder {
    /// Records pings in one call, in the given order; returns one outcome per ping.
    pub(super) async fn record(&self, pings: &[Ping]) -> Result<Vec<PingOutcome>, RedisError> {
        let mut connection = self.connection.clone();
        let offset = self.connector.clock_offset();
        if !offset.is_measured() {
            // The first pings of a process must not wait for a probe, nor be dated by a clock that may be wrong.
            let asked = offset.to_local(self.clock.now());
            let (seconds, micros): (i64, i64) = redis::cmd("TIME").query_async(&mut connection).await?;
            let server = EpochMs(seconds.saturating_mul(1000).saturating_add(micros / 1000));
            offset.measure(asked, server, offset.to_local(self.clock.now()));
        }
        let call = self.call(pings);
        let mut answer: Vec<String> = match call.query_async(&mut connection).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.script.prepare_invoke().load_async(&mut connection).await?;
                call.query_async(&mut connection).await?
            }
            answered => answered?,
        };
        if answer.len() > 1 {
            self.connector.note_repairs(&answer.remove(1));
        }
        parse_outcomes(answer, pings.len())
            .ok_or_else(|| RedisError::from((ErrorKind::UnexpectedReturnType, "pings were not answered one by one")))
    }

    /// The script's call, written into one buffer. `ScriptInvocation` would allocate each of some thousand arguments.
    fn call(&self, pings: &[Ping]) -> Cmd {
        let offset = self.connector.clock_offset();
        let mut seconds: Vec<i64> = pings.iter().map(|ping| offset.to_server(ping.at).0.div_euclid(1000)).collect();
        seconds.sort_unstable();
        seconds.dedup();
        let (frame, each) = ARGUMENTS;
        let mut call =
            Cmd::with_capacity(frame + 2 * seconds.len() + each * pings.len(), PING_BYTES * (pings.len() + 4));
        call.arg("EVALSHA").arg(self.script.get_hash()).arg(3 + pings.len());
        call.arg(self.keys.geo()).arg(self.keys.seen()).arg(self.keys.feed());
        let prefix = self.keys.driver_prefix();
        let mut text = prefix.clone();
        for ping in pings {
            text.truncate(prefix.len());
            text.push_str(ping.driver.as_str());
            call.arg(&text);
        }
        call.arg(fresh_since(&self.city, self.clock.now()).0).arg(STALE_DROPPED_MAX).arg(DRIVER_TTL_MS);
        call.arg(prefix.len()).arg(seconds.len());
        for second in seconds {
            call.arg(second).arg(self.city.timestamp(EpochMs(second * 1000)));
        }
        for ping in pings {
            for degrees in [ping.position.lat(), ping.position.lng()] {
                text.clear();
                // Writing to a `String` cannot fail.
                let _ = write!(text, "{degrees}");
                call.arg(&text);
            }
            call.arg(offset.to_server(ping.at).0);
            match ping.phone_at {
                Some(phone_at) => call.arg(phone_at.0),
                None => call.arg(""),
            };
        }
        call
    }
}

/// Parses the answer: one letter per ping, followed by the dispatches that the `@` letters refer to.
fn parse_outcomes(answer: Vec<String>, pings: usize) -> Option<Vec<PingOutcome>> {
    let mut answer = answer.into_iter();
    let letters = answer.next()?;
    let recorded = letters.bytes().map(|letter| match letter {
        b'?' => Some(PingOutcome::Unknown),
        b'<' => Some(PingOutcome::Outdated),
        b'!' => Some(PingOutcome::Implausible),
        b'.' => Some(PingOutcome::Seen),
        b'@' => Some(
            answer.next().and_then(|id| DispatchId::parse(id).ok()).map_or(PingOutcome::Seen, PingOutcome::OnDispatch),
        ),
        _ => None,
    });
    recorded.collect::<Option<Vec<PingOutcome>>>().filter(|recorded| recorded.len() == pings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(parts: &[&str]) -> Vec<String> {
        parts.iter().map(|part| (*part).to_owned()).collect()
    }

    #[test]
    fn letters_are_parsed_with_the_dispatches_after_them() {
        let on = |id: &str| PingOutcome::OnDispatch(DispatchId::parse(id).unwrap());
        let read = parse_outcomes(answer(&["?@<!.@", "dispatch#1", "dispatch#2"]), 6);
        let expected = [
            PingOutcome::Unknown,
            on("dispatch#1"),
            PingOutcome::Outdated,
            PingOutcome::Implausible,
            PingOutcome::Seen,
            on("dispatch#2"),
        ];
        assert_eq!(read, Some(expected.to_vec()));
        assert_eq!(parse_outcomes(answer(&["@", "rubbish"]), 1), Some(vec![PingOutcome::Seen]));
    }

    #[test]
    fn an_answer_that_is_not_one_for_each_ping_is_none() {
        for (parts, pings) in [(&["."][..], 2), (&["x"], 1), (&[], 0)] {
            assert_eq!(parse_outcomes(answer(parts), pings), None);
        }
        assert_eq!(parse_outcomes(answer(&[""]), 0), Some(Vec::new()));
    }
}
