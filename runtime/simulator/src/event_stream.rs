//! The event stream of an app, which is reopened whenever it ends.

use std::time::Duration;

use dispatch_http_types::Notification;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::random::{Actor, Dice};
use crate::run::Run;

/// Maximum events that wait for a slow listener. Further events make the stream wait, so that memory does not grow.
pub(crate) const WAITING_MAX: usize = 64;

/// Maximum length of an event, bytes: a notification has about 500.
const EVENT_BYTES_MAX: usize = 64 * 1024;

/// First and maximum pause before a stream is reopened, ms.
const PAUSE_MS: f64 = 200.0;
const PAUSE_MAX_MS: f64 = 5_000.0;

/// The listener of a stream.
#[derive(Debug, Clone)]
pub(crate) struct Listener {
    /// The query parameter: `driver` or `user`.
    pub who: &'static str,
    /// Id without its prefix.
    pub suffix: String,
    /// Number of the listener, from which its random pauses follow.
    pub number: u32,
}

/// What a stream delivers.
pub(crate) enum StreamEvent {
    /// The stream was opened. Earlier notifications may be lost.
    Connected,
    /// A notification and its time of arrival, ms of the run.
    Notification(Box<Notification>, u64),
}

/// Listens until the receiver is dropped.
pub(crate) async fn listen(run: &Run, listener: &Listener, to: &mpsc::Sender<StreamEvent>) {
    let mut dice = Dice::for_actor(run.args.seed, Actor::Reconnect(listener.number));
    let mut failures = 0;
    while !to.is_closed() {
        let received_any = listen_once(run, listener, to).await;
        run.book.tally(|tally| tally.stream_reconnects += 1);
        failures = if received_any { 0 } else { (failures + 1).min(10) };
        // When a worker ends, thousands of apps lose their stream at the same time; random pauses spread their
        // reconnects.
        let pause = (PAUSE_MS * f64::from(1 << failures)).min(PAUSE_MAX_MS) * dice.between(0.5..1.5);
        sleep(Duration::from_secs_f64(pause / 1000.0)).await;
    }
}

/// Reads one stream until it ends. Returns whether it could be opened.
async fn listen_once(run: &Run, listener: &Listener, to: &mpsc::Sender<StreamEvent>) -> bool {
    let Some(mut response) = run.api.events(listener.who, &listener.suffix).await else { return false };
    if to.send(StreamEvent::Connected).await.is_err() {
        return true;
    }
    let mut events = EventReader::default();
    while let Ok(Some(bytes)) = response.chunk().await {
        let Some(found) = events.read(&bytes) else { break };
        for data in found {
            let Ok(notification) = serde_json::from_str::<Notification>(&data) else {
                run.book.tally(|tally| tally.unreadable_events += 1);
                continue;
            };
            run.book.notification(notification.kind);
            if to.send(StreamEvent::Notification(Box::new(notification), run.clock.now())).await.is_err() {
                return true;
            }
        }
    }
    true
}

/// Parses server-sent events (WHATWG HTML, section 9.2). Returns only the `data` of each; comments and other fields are
/// ignored.
#[derive(Default)]
struct EventReader {
    line: Vec<u8>,
    data: String,
}

impl EventReader {
    /// The events that end within these bytes; `None` if one exceeds [`EVENT_BYTES_MAX`].
    fn read(&mut self, bytes: &[u8]) -> Option<Vec<String>> {
        let mut found = Vec::new();
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
                if self.line.len() + self.data.len() > EVENT_BYTES_MAX {
                    return None;
                }
                continue;
            }
            let line = String::from_utf8_lossy(&self.line).into_owned();
            self.line.clear();
            let line = line.strip_suffix('\r').unwrap_or(&line);
            if line.is_empty() {
                if !self.data.is_empty() {
                    found.push(std::mem::take(&mut self.data));
                }
            } else if let Some(data) = line.strip_prefix("data:") {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
            }
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_wherever_the_bytes_are_split() {
        let text = ": heartbeat\n\nevent: OFFER\nid: 1\ndata: {\"a\":\"새\"}\n\ndata: one\r\ndata:two\r\n\r\n: x\n\n";
        let expected = ["{\"a\":\"새\"}".to_owned(), "one\ntwo".to_owned()];
        for size in 1..text.len() {
            let mut reader = EventReader::default();
            let found: Vec<String> =
                text.as_bytes().chunks(size).flat_map(|bytes| reader.read(bytes).unwrap()).collect();
            assert_eq!(found, expected, "split every {size} bytes");
        }
    }

    #[test]
    fn an_endless_event_ends_the_stream() {
        let mut reader = EventReader::default();
        assert_eq!(reader.read(&vec![b'x'; EVENT_BYTES_MAX + 1]), None);
    }
}
