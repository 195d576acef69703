//! `dispatch-simulator`: simulates the drivers and users of a city over the public HTTP API, and audits the result.
//!
//! Drivers register, become available, drive around, send positions, listen to their event streams, and accept, reject
//! or ignore offers. Users request rides, wait, and sometimes cancel. Rides are shortened so that they end within the
//! run. After the traffic the simulator waits for all rides to end, reads every dispatch again, and the
//! [auditor](mod@audit) reports what must never happen.
//!
//! The [`schedule`] of a run depends only on its seed. So do a driver's answers and delays, in the order of the offers
//! that the driver receives. The simulator knows nothing of what is behind the API, so the same command works for a
//! local run, a cluster and an AWS environment.

mod api;
mod args;
pub mod audit;
mod driver;
mod drivers;
mod event_stream;
pub mod map;
mod metrics;
pub mod random;
mod riders;
mod run;
pub mod schedule;
mod summary;
mod time;
mod users;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::{Stream, StreamExt, TryStreamExt, stream};
use thiserror::Error;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub use api::ApiError;
pub use args::Args;
pub use summary::Summary;

use api::{Reply, Speaker};
use audit::{DriverEnd, Ending, History, Violation, audit};
use run::Run;
use schedule::DriverPlan;
use summary::Material;
use users::RequestState;

/// Maximum concurrent calls while drivers become available or unavailable, and while histories are read.
const CALLS_AT_ONCE: usize = 16;

/// Maximum open requests. More would not help a service that has fallen this far behind.
const LIVE_REQUESTS_MAX: usize = 5_000;

/// Time for all drivers to open their event streams before the first request.
const CONNECT_TIME: Duration = Duration::from_secs(15);

/// Time that an interrupted run still waits for rides to end.
const INTERRUPTED_DRAIN: Duration = Duration::from_secs(3);

/// Number of the newest dispatches that are read again at the end, to detect changes after they had ended.
const READ_AGAIN_MAX: usize = 1_000;

/// Time between two progress lines.
const PROGRESS: Duration = Duration::from_secs(5);

/// Why a run failed.
#[derive(Debug, Error)]
pub enum SimulateError {
    #[error("--accept-share and --reject-share must add up to at most 1")]
    Shares,
    #[error("cannot set up the city")]
    Setup(#[source] ApiError),
    #[error(
        "cannot open the event streams: only {connected} of {drivers} drivers are connected after {} s",
        CONNECT_TIME.as_secs()
    )]
    Streams { connected: u32, drivers: u32 },
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
    #[error("cannot write the summary to {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// The result of a run. Its exit codes are 0, 3 and 130.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Every request ended, and the auditor found no violation.
    Clean,
    /// The auditor found violations.
    Violated,
    /// The run was interrupted, and the auditor found no violation up to then.
    Interrupted,
}

impl From<Verdict> for ExitCode {
    fn from(verdict: Verdict) -> Self {
        Self::from(match verdict {
            Verdict::Clean => 0,
            Verdict::Violated => 3,
            Verdict::Interrupted => 130,
        })
    }
}

/// Runs the simulation, prints the summary and returns the verdict.
pub async fn run(args: Args) -> Result<Verdict, SimulateError> {
    if !args.answers_fit() {
        return Err(SimulateError::Shares);
    }
    let interrupted = interruption()?;
    let run = Arc::new(Run::new(args).map_err(SimulateError::Setup)?);
    let drivers: Vec<DriverPlan> = (0..run.args.drivers).map(|number| schedule::driver(&run.args, number)).collect();

    let setup = tokio::select! {
        setup = sign_on(&run, &drivers) => Some(setup?),
        () = interrupted.cancelled() => None,
    };
    let Some(_crew) = setup else { return Ok(Verdict::Interrupted) };

    let mut traffic = Traffic { rides: JoinSet::new(), made: 0 };
    let began = run.clock.now();
    let progress = AbortOnDropHandle::new(tokio::spawn(report_progress(Arc::clone(&run), began)));
    tokio::select! {
        () = traffic.make(&run, began) => {}
        () = interrupted.cancelled() => {}
    }
    let traffic_ended = run.clock.now();
    run.say("traffic ended; waiting for the rides to end");
    let ending = traffic.drain(&run, &interrupted).await;
    drop(progress);
    let drained = run.clock.now();

    let AllRead { histories, mut violations, refused } = read_histories(&run, ending).await;
    let mut ends = Vec::new();
    if ending == Ending::Drained {
        let (read, unreadable) = driver_ends(&run, &drivers).await;
        ends = read;
        violations.extend(unreadable);
        sign_off(&run, &drivers).await;
    }
    violations.extend(audit(&histories, &ends, ending));
    let seconds = |from: u64, to: u64| to.saturating_sub(from) as f64 / 1000.0;
    let summary = Summary::new(Material {
        city: (run.args.seed, run.args.drivers, run.args.rate),
        seconds: (seconds(began, traffic_ended), seconds(traffic_ended, drained)),
        ending,
        made: traffic.made,
        refused,
        histories: &histories,
        book: &run.book,
        violations,
    });
    publish(&run.args, &summary).await?;
    Ok(match (summary.clean, ending) {
        (false, _) => Verdict::Violated,
        (true, Ending::Interrupted) => Verdict::Interrupted,
        (true, Ending::Drained) => Verdict::Clean,
    })
}

/// A token that the first Ctrl-C or SIGTERM cancels.
fn interruption() -> Result<CancellationToken, SimulateError> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt()).map_err(SimulateError::Signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(SimulateError::Signals)?;
    let token = CancellationToken::new();
    let child = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        child.cancel();
    });
    Ok(token)
}

/// The tasks of all drivers. Dropping it stops them.
struct Crew {
    stop: CancellationToken,
    _tasks: JoinSet<()>,
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Makes all drivers available and waits until their event streams are open.
async fn sign_on(run: &Arc<Run>, drivers: &[DriverPlan]) -> Result<Crew, SimulateError> {
    run.say(&format!("registering {} drivers", drivers.len()));
    stream::iter(drivers)
        .map(|plan| drivers::sign_on(run, plan))
        .buffer_unordered(CALLS_AT_ONCE)
        .try_for_each(|()| std::future::ready(Ok(())))
        .await
        .map_err(SimulateError::Setup)?;
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    for plan in drivers {
        tasks.spawn(drivers::drive(Arc::clone(run), plan.clone(), stop.clone()));
    }
    tasks.spawn(drivers::ping(Arc::clone(run), stop.clone()));
    let crew = Crew { stop, _tasks: tasks };
    let connected = || run.drivers_connected.load(Ordering::Relaxed);
    let all_connected = async {
        while connected() < run.args.drivers {
            sleep(Duration::from_millis(20)).await;
        }
    };
    if timeout(CONNECT_TIME, all_connected).await.is_err() {
        return Err(SimulateError::Streams { connected: connected(), drivers: run.args.drivers });
    }
    Ok(crew)
}

/// The requests of a run.
struct Traffic {
    rides: JoinSet<()>,
    made: usize,
}

impl Traffic {
    /// Sends the scheduled requests, then waits until the traffic ends, which is never if no duration is set.
    async fn make(&mut self, run: &Arc<Run>, began: u64) {
        for plan in schedule::requests(&run.args) {
            run.clock.sleep_until(began + plan.at_ms).await;
            while self.rides.try_join_next().is_some() {}
            if self.rides.len() >= LIVE_REQUESTS_MAX {
                self.rides.join_next().await;
            }
            self.made += 1;
            self.rides.spawn(riders::ask(Arc::clone(run), plan));
        }
        match run.args.traffic {
            Some(length) => sleep_until(run.clock.0 + Duration::from_millis(began) + length).await,
            None => std::future::pending().await,
        }
    }

    /// Waits until every request has ended, for at most the drain timeout, or for a short time after an interruption.
    async fn drain(&mut self, run: &Run, interrupted: &CancellationToken) -> Ending {
        let ending = tokio::select! {
            // The auditor reports requests that have not ended in time.
            _ = timeout(run.args.drain_timeout, self.all_over()) => Ending::Drained,
            () = interrupted.cancelled() => Ending::Interrupted,
        };
        if ending == Ending::Interrupted && timeout(INTERRUPTED_DRAIN, self.all_over()).await.is_err() {
            run.say("interrupted; some requests have not ended");
        }
        self.rides.shutdown().await;
        ending
    }

    async fn all_over(&mut self) {
        while self.rides.join_next().await.is_some() {}
    }
}

async fn report_progress(run: Arc<Run>, began: u64) {
    let mut ticks = interval(PROGRESS);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let (mut made, mut ended) = (0, 0);
        for state in run.requests.lock().values() {
            made += 1;
            ended += usize::from(matches!(state, RequestState::Ended(_)));
        }
        let seconds = run.clock.now().saturating_sub(began) / 1000;
        run.say(&format!("{seconds:>5} s  {made} requests, {ended} ended, {} in progress", made - ended));
    }
}

/// What became of the requests of a run.
struct AllRead {
    histories: Vec<History>,
    violations: Vec<Violation>,
    /// Requests that an outage refused until their users gave up.
    refused: usize,
}

/// The histories of all dispatches. The newest and the unfinished ones are read again now; for the others, the state at
/// their end is used.
async fn read_histories(run: &Run, ending: Ending) -> AllRead {
    let mut requests = std::mem::take(&mut *run.requests.lock());
    let all = requests.len();
    requests.retain(|_, state| !matches!(state, RequestState::Refused));
    let refused = all - requests.len();
    let oldest_read_again = requests.len().saturating_sub(READ_AGAIN_MAX);
    let entries = requests.into_iter().enumerate().map(|(index, (request, state))| async move {
        match state {
            RequestState::Ended(history) if index < oldest_read_again || ending == Ending::Interrupted => Ok(history),
            RequestState::Ended(History { dispatch, .. }) | RequestState::Stored(dispatch) => {
                match run.api.dispatch(Speaker::Operations, &dispatch).await {
                    Ok(Reply::Done(read)) => Ok(riders::history(&read)),
                    Ok(Reply::Refused(_)) | Err(_) => Err(Violation::Unreadable { dispatch }),
                }
            }
            RequestState::Sent => {
                Err(Violation::NotStored { request, answer: "no response before the end of the run".to_owned() })
            }
            RequestState::NotStored(answer) => Err(Violation::NotStored { request, answer }),
            RequestState::Refused => Err(Violation::NotStored { request, answer: "refused for the moment".to_owned() }),
        }
    });
    let (histories, mut violations) = split(stream::iter(entries).buffered(CALLS_AT_ONCE)).await;
    if ending == Ending::Interrupted {
        // A request that the interruption cut off is not a violation.
        violations.retain(|violation| !matches!(violation, Violation::NotStored { .. }));
    }
    AllRead { histories, violations, refused }
}

/// The state of all drivers at the end.
async fn driver_ends(run: &Run, drivers: &[DriverPlan]) -> (Vec<DriverEnd>, Vec<Violation>) {
    let ends = stream::iter(drivers).map(|plan| async move {
        match run.api.driver(&plan.suffix).await {
            Ok(Reply::Done(profile)) => Ok(DriverEnd {
                driver: profile.driver_id,
                status: profile.current_status.status,
                dispatch: profile.current_status.current_dispatch_id,
            }),
            Ok(Reply::Refused(_)) | Err(_) => Err(Violation::DriverUnreadable { driver: plan.suffix.clone() }),
        }
    });
    split(ends.buffered(CALLS_AT_ONCE)).await
}

/// Separates the results from the violations.
async fn split<T>(read: impl Stream<Item = Result<T, Violation>>) -> (Vec<T>, Vec<Violation>) {
    read.fold((Vec::new(), Vec::new()), |(mut good, mut bad), entry| {
        match entry {
            Ok(entry) => good.push(entry),
            Err(violation) => bad.push(violation),
        }
        std::future::ready((good, bad))
    })
    .await
}

/// Makes all drivers unavailable, so that they receive no more offers. A failure is harmless: drivers without recent
/// positions receive no offers either.
async fn sign_off(run: &Run, drivers: &[DriverPlan]) {
    let refused = stream::iter(drivers)
        .map(|plan| drivers::sign_off(run, plan))
        .buffer_unordered(CALLS_AT_ONCE)
        .filter(|done| std::future::ready(done.is_err()))
        .count()
        .await;
    if refused > 0 {
        run.say(&format!("cannot make {refused} drivers unavailable"));
    }
}

async fn publish(args: &Args, summary: &Summary) -> Result<(), SimulateError> {
    println!("{summary}");
    let Some(path) = &args.summary else { return Ok(()) };
    let write = |source| SimulateError::Write { path: path.clone(), source };
    let mut json = serde_json::to_vec_pretty(summary).map_err(|error| write(error.into()))?;
    json.push(b'\n');
    tokio::fs::write(path, json).await.map_err(write)
}
