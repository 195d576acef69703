//! Signals that end a run.

use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{LocalError, machine_error};

/// Signals within this time of the first are the same request: `make` forwards a signal that the terminal has already
/// sent to the whole process group.
const SAME_REQUEST: Duration = Duration::from_secs(1);

/// SIGINT, SIGTERM and SIGHUP. After a SIGHUP the terminal is gone.
pub(crate) struct StopSignals([Signal; 3]);

impl StopSignals {
    pub(crate) fn new() -> Result<Self, LocalError> {
        let listen = |kind| signal(kind).map_err(machine_error("listen for signals"));
        Ok(Self([listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?, listen(SignalKind::hangup())?]))
    }

    /// Waits for the next signal.
    pub(crate) async fn recv(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }

    /// Waits for a second request to stop.
    pub(crate) async fn recv_again(&mut self) {
        let first = Instant::now();
        while first.elapsed() < SAME_REQUEST {
            self.recv().await;
        }
    }
}
