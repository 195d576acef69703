//! `dispatch-simulator`: a seeded city that uses only the public HTTP API, and an auditor who checks what came of it.
//!
//! Drivers register, go on duty, drive around, send positions, listen to their event streams, and accept, reject or ignore
//! offers; users ask, wait, sometimes cancel. Trips are shortened so that rides end within the run. When the traffic is over,
//! the city is drained, every dispatch is read again, and the [auditor](mod@audit) looks for what must never happen.
//!
//! The plan of a run ([`schedule`]) follows from its seed alone; so do a driver's answers and delays, in the order of the offers it
//! gets. Nothing here knows what is behind the API: the same command drives a local run, a cluster, or an AWS environment.

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
use metrics::lock;
use run::Run;
use schedule::DriverPlan;
use summary::Material;
use users::RequestState;

/// Calls under way at once while drivers sign on and off, and while histories are read.
const CALLS_AT_ONCE: usize = 16;

/// Requests under way at once. A service that is so far behind is not helped by more.
const LIVE_REQUESTS_MAX: usize = 5_000;

/// How long drivers are given to open their event streams before the first request.
const CONNECT_TIME: Duration = Duration::from_secs(15);

/// How long an interrupted run goes on for rides that are nearly over.
const INTERRUPTED_DRAIN: Duration = Duration::from_secs(3);

/// Newest dispatches read again at the end, to see whether anything happened to them after their end.
const READ_AGAIN_MAX: usize = 1_000;

/// Time between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(5);

/// Why a run could not be made.
#[derive(Debug, Error)]
pub enum SimulateError {
    /// The options do not fit together.
    #[error("--accept-share and --reject-share are more than 1 together")]
    Shares,
    /// The API could not be used.
    #[error("the city cannot be set up")]
    Setup(#[source] ApiError),
    /// The drivers' event streams could not be opened.
    #[error("{connected} of {drivers} drivers have an event stream after {} s", CONNECT_TIME.as_secs())]
    Streams {
        /// Drivers who have one.
        connected: u32,
        /// All drivers.
        drivers: u32,
    },
    /// Signals cannot be waited for.
    #[error("signals cannot be waited for")]
    Signals(#[source] std::io::Error),
    /// The summary could not be written.
    #[error("the summary cannot be written to {}", path.display())]
    Write {
        /// Where to.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// What a run came to, as an exit code: 0, 3 and 130.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The auditor found nothing, and every request came to its end.
    Clean,
    /// The auditor found violations.
    Violated,
    /// The run was interrupted; the auditor found nothing by then.
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

/// Plays the city, prints the summary and gives the verdict.
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
    run.say("no more requests; waiting for the rides to end");
    let ending = traffic.drain(&run, &interrupted).await;
    drop(progress);
    let drained = run.clock.now();

    let (histories, mut violations) = read_histories(&run, ending).await;
    let mut ends = Vec::new();
    if ending == Ending::Drained {
        let (read, unreadable) = driver_ends(&run, &drivers).await;
        ends = read;
        violations.extend(unreadable);
        sign_off(&run, &drivers).await;
    }
    violations.extend(audit(&histories, &ends, ending));
    let seconds = |from: u64, to: u64| to.saturating_sub(from) as f64 / 1000.0;
    let summary = Summary::of(Material {
        city: (run.args.seed, run.args.drivers, run.args.rate),
        seconds: (seconds(began, traffic_ended), seconds(traffic_ended, drained)),
        ending,
        made: traffic.made,
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

/// A token that is cancelled by the first Ctrl-C or SIGTERM.
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

/// The drivers at work; dropping it ends them.
struct Crew {
    stop: CancellationToken,
    _tasks: JoinSet<()>,
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Sends all drivers on duty and waits until they listen.
async fn sign_on(run: &Arc<Run>, drivers: &[DriverPlan]) -> Result<Crew, SimulateError> {
    run.say(&format!("{} drivers sign on", drivers.len()));
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
    /// Makes requests as planned; then waits for the end of the traffic's time, or for ever where it has none.
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

    /// Waits until every request has come to its end, as long as the options allow, or shortly where interrupted.
    async fn drain(&mut self, run: &Run, interrupted: &CancellationToken) -> Ending {
        let ending = tokio::select! {
            // What is not over in time is found by the auditor.
            _ = timeout(run.args.drain_timeout, self.all_over()) => Ending::Drained,
            () = interrupted.cancelled() => Ending::Interrupted,
        };
        if ending == Ending::Interrupted && timeout(INTERRUPTED_DRAIN, self.all_over()).await.is_err() {
            run.say("interrupted; some requests are unfinished");
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
        for state in lock(&run.requests).values() {
            made += 1;
            ended += usize::from(matches!(state, RequestState::Ended(_)));
        }
        let seconds = run.clock.now().saturating_sub(began) / 1000;
        run.say(&format!("{seconds:>5} s  {made} requests, {ended} ended, {} under way", made - ended));
    }
}

/// What the service says of all dispatches: of the newest and of the unfinished ones now, of the others when they ended.
async fn read_histories(run: &Run, ending: Ending) -> (Vec<History>, Vec<Violation>) {
    let requests = std::mem::take(&mut *lock(&run.requests));
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
            RequestState::Sent => Err(Violation::NotStored { request, answer: "no answer by the end".to_owned() }),
            RequestState::NotStored(answer) => Err(Violation::NotStored { request, answer }),
        }
    });
    let (histories, mut violations) = split(stream::iter(entries).buffered(CALLS_AT_ONCE)).await;
    if ending == Ending::Interrupted {
        // A request whose answer was cut off by the interruption is no fault.
        violations.retain(|violation| !matches!(violation, Violation::NotStored { .. }));
    }
    (histories, violations)
}

/// What the service says of all drivers.
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

/// What was read, and what could not be.
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

/// Sends all drivers home, so that nobody is offered to who is not there. That it fails for some is found by the service: they
/// are silent.
async fn sign_off(run: &Run, drivers: &[DriverPlan]) {
    let refused = stream::iter(drivers)
        .map(|plan| drivers::sign_off(run, plan))
        .buffer_unordered(CALLS_AT_ONCE)
        .filter(|done| std::future::ready(done.is_err()))
        .count()
        .await;
    if refused > 0 {
        run.say(&format!("{refused} drivers could not sign off"));
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
