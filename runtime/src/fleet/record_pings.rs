//! Takes pings over into Redis, many in one call.

use std::fmt::Write as _;
use std::sync::Arc;

use dispatch_core::ids::DispatchId;
use dispatch_core::time::EpochMs;
use redis::aio::ConnectionManager;
use redis::{Cmd, ErrorKind, RedisError, Script, ServerErrorKind};

use super::keys::Keys;
use super::{DRIVER_TTL_MS, fresh_since};
use crate::city::City;
use crate::ports::{Clock, Ping, Recorded};

/// Stale drivers dropped with each call. More than go stale between two calls, few enough not to delay one.
const STALE_DROPPED_MAX: usize = 100;

/// Arguments in front of the pings, and of each ping.
const ARGUMENTS: (usize, usize) = (16, 5);
/// Bytes of a ping's arguments, about.
const PING_BYTES: usize = 110;

/// Takes pings over.
pub(super) struct Recorder {
    pub(super) connection: ConnectionManager,
    pub(super) script: Script,
    pub(super) keys: Keys,
    pub(super) city: City,
    pub(super) clock: Arc<dyn Clock>,
}

impl Recorder {
    /// Pings in one call, in the order given; one answer for each.
    pub(super) async fn record(&self, pings: &[Ping]) -> Result<Vec<Recorded>, RedisError> {
        let mut connection = self.connection.clone();
        let call = self.call(pings);
        let answer: Vec<String> = match call.query_async(&mut connection).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.script.prepare_invoke().load_async(&mut connection).await?;
                call.query_async(&mut connection).await?
            }
            answered => answered?,
        };
        recorded(answer, pings.len())
            .ok_or_else(|| RedisError::from((ErrorKind::UnexpectedReturnType, "pings were not answered one by one")))
    }

    /// The script's call, written straight into one buffer: the general way would allocate each of some thousand arguments.
    fn call(&self, pings: &[Ping]) -> Cmd {
        let mut seconds: Vec<i64> = pings.iter().map(|ping| ping.at.0.div_euclid(1000)).collect();
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
                // A String takes whatever is written.
                let _ = write!(text, "{degrees}");
                call.arg(&text);
            }
            call.arg(ping.at.0);
            match ping.phone_at {
                Some(phone_at) => call.arg(phone_at.0),
                None => call.arg(""),
            };
        }
        call
    }
}

/// The letters of an answer, one for each ping, with the dispatches that follow them.
fn recorded(answer: Vec<String>, pings: usize) -> Option<Vec<Recorded>> {
    let mut answer = answer.into_iter();
    let letters = answer.next()?;
    let recorded = letters.bytes().map(|letter| match letter {
        b'?' => Some(Recorded::Unknown),
        b'<' => Some(Recorded::Outdated),
        b'!' => Some(Recorded::Implausible),
        b'.' => Some(Recorded::Seen),
        b'@' => {
            Some(answer.next().and_then(|id| DispatchId::parse(id).ok()).map_or(Recorded::Seen, Recorded::OnDispatch))
        }
        _ => None,
    });
    recorded.collect::<Option<Vec<Recorded>>>().filter(|recorded| recorded.len() == pings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(parts: &[&str]) -> Vec<String> {
        parts.iter().map(|part| (*part).to_owned()).collect()
    }

    #[test]
    fn letters_are_read_with_the_dispatches_behind_them() {
        let on = |id: &str| Recorded::OnDispatch(DispatchId::parse(id).unwrap());
        let read = recorded(answer(&["?@<!.@", "dispatch#1", "dispatch#2"]), 6);
        let expected = [
            Recorded::Unknown,
            on("dispatch#1"),
            Recorded::Outdated,
            Recorded::Implausible,
            Recorded::Seen,
            on("dispatch#2"),
        ];
        assert_eq!(read, Some(expected.to_vec()));
        assert_eq!(recorded(answer(&["@", "rubbish"]), 1), Some(vec![Recorded::Seen]));
    }

    #[test]
    fn an_answer_that_is_not_one_for_each_ping_is_none() {
        for (parts, pings) in [(&["."][..], 2), (&["x"], 1), (&[], 0)] {
            assert_eq!(recorded(answer(parts), pings), None);
        }
        assert_eq!(recorded(answer(&[""]), 0), Some(Vec::new()));
    }
}
