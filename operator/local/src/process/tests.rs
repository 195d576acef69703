use std::path::Path;

use rustix::process::{kill_process, test_kill_process};

use super::*;

const WITHIN: Duration = Duration::from_secs(10);

fn spec(dir: &Path, script: &str, restart: RestartPolicy) -> ProcessSpec {
    ProcessSpec {
        program: Program::Runtime,
        executable: PathBuf::from("sh"),
        args: vec!["-c".into(), script.into()],
        env: vec![("GREETING", "hello".to_owned())],
        without_env: Vec::new(),
        log: dir.join("child.log"),
        restart,
        grace: WITHIN,
    }
}

fn pid(raw: u32) -> Pid {
    Pid::from_raw(i32::try_from(raw).unwrap()).unwrap()
}

fn is_alive(raw: u32) -> bool {
    test_kill_process(pid(raw)).is_ok()
}

async fn wait_for_pid(path: &Path) -> u32 {
    let deadline = Instant::now() + WITHIN;
    loop {
        if let Ok(text) = std::fs::read_to_string(path)
            && let Ok(pid) = text.trim().parse()
        {
            return pid;
        }
        assert!(Instant::now() < deadline, "{} was not written", path.display());
        sleep(Duration::from_millis(10)).await;
    }
}

async fn wait_until_gone(raw: u32) {
    let deadline = Instant::now() + WITHIN;
    while is_alive(raw) {
        assert!(Instant::now() < deadline, "process {raw} is still alive");
        sleep(Duration::from_millis(10)).await;
    }
}

async fn started(events: &mut mpsc::Receiver<ProcessEvent>) -> u32 {
    match timeout(WITHIN, events.recv()).await.unwrap().unwrap() {
        ProcessEvent::Started { pid, .. } => pid,
        other => panic!("expected a start, got {other:?}"),
    }
}

#[tokio::test]
async fn a_killed_process_restarts_after_the_first_pause() {
    let dir = tempfile::tempdir().unwrap();
    let reaper = Arc::new(Reaper::start().unwrap());
    let (sender, mut events) = mpsc::channel(EVENT_CAPACITY);
    let restart = RestartPolicy::Always(RestartBackoff::LOCAL);
    let mut child = ProcessHandle::start(spec(dir.path(), "exec sleep 600", restart), reaper, sender);
    let first = started(&mut events).await;
    kill_process(pid(first), Signal::KILL).unwrap();
    match timeout(WITHIN, events.recv()).await.unwrap().unwrap() {
        ProcessEvent::Exited { status, restart_in, .. } => {
            assert_eq!(describe_exit(status), "signal 9");
            assert_eq!(restart_in, Some(Duration::from_millis(200)));
        }
        other => panic!("expected an exit, got {other:?}"),
    }
    let second = started(&mut events).await;
    assert_ne!(first, second);
    child.stop().await;
    assert!(!is_alive(second));
}

#[tokio::test]
async fn a_stop_ends_the_processes_that_a_process_started() {
    let dir = tempfile::tempdir().unwrap();
    let reaper = Arc::new(Reaper::start().unwrap());
    let (sender, mut events) = mpsc::channel(EVENT_CAPACITY);
    let inner = dir.path().join("inner.pid");
    let script = format!("sleep 600 & echo $! > {}; wait", inner.display());
    let mut child = ProcessHandle::start(spec(dir.path(), &script, RestartPolicy::Never), reaper, sender);
    let outer = started(&mut events).await;
    let inner = wait_for_pid(&inner).await;
    child.stop().await;
    assert!(!is_alive(outer));
    wait_until_gone(inner).await;
}

#[tokio::test]
async fn a_process_that_ignores_sigterm_is_killed_after_its_grace() {
    let dir = tempfile::tempdir().unwrap();
    let reaper = Arc::new(Reaper::start().unwrap());
    let (sender, mut events) = mpsc::channel(EVENT_CAPACITY);
    let ready = dir.path().join("ready.pid");
    let script = format!("trap '' TERM; echo $$ > {}; while :; do sleep 1; done", ready.display());
    let mut spec = spec(dir.path(), &script, RestartPolicy::Never);
    spec.grace = Duration::from_millis(100);
    let mut child = ProcessHandle::start(spec, reaper, sender);
    let outer = started(&mut events).await;
    wait_for_pid(&ready).await;
    child.stop().await;
    assert!(!is_alive(outer));
}

#[tokio::test]
async fn a_second_command_ends_the_grace() {
    let dir = tempfile::tempdir().unwrap();
    let reaper = Arc::new(Reaper::start().unwrap());
    let (sender, mut events) = mpsc::channel(EVENT_CAPACITY);
    let ready = dir.path().join("ready.pid");
    let script = format!("trap '' TERM; echo $$ > {}; while :; do sleep 1; done", ready.display());
    let mut spec = spec(dir.path(), &script, RestartPolicy::Never);
    spec.grace = Duration::from_hours(1);
    let mut child = ProcessHandle::start(spec, reaper, sender);
    let outer = started(&mut events).await;
    wait_for_pid(&ready).await;
    // The first command is abandoned, as by a second Ctrl-C.
    let _ = timeout(Duration::from_millis(50), child.stop()).await;
    timeout(WITHIN, child.kill()).await.unwrap();
    assert!(!is_alive(outer));
}

#[tokio::test]
async fn a_commanded_restart_is_not_reported_as_an_exit() {
    let dir = tempfile::tempdir().unwrap();
    let reaper = Arc::new(Reaper::start().unwrap());
    let (sender, mut events) = mpsc::channel(EVENT_CAPACITY);
    let restart = RestartPolicy::Always(RestartBackoff::LOCAL);
    let mut child = ProcessHandle::start(spec(dir.path(), "exec sleep 600", restart), reaper, sender);
    let first = started(&mut events).await;
    assert!(child.restart().await);
    let second = started(&mut events).await;
    assert_ne!(first, second);
    assert!(!is_alive(first));
    child.stop().await;
}

#[tokio::test]
async fn exit_code_and_output_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let reaper = Arc::new(Reaper::start().unwrap());
    let (sender, mut events) = mpsc::channel(EVENT_CAPACITY);
    let mut child =
        ProcessHandle::start(spec(dir.path(), "echo $GREETING; exit 3", RestartPolicy::Never), reaper, sender);
    started(&mut events).await;
    match timeout(WITHIN, events.recv()).await.unwrap().unwrap() {
        ProcessEvent::Exited { status, restart_in: None, .. } => assert_eq!(describe_exit(status), "exit code 3"),
        other => panic!("expected an exit, got {other:?}"),
    }
    assert_eq!(std::fs::read_to_string(dir.path().join("child.log")).unwrap(), "hello\n");
    child.stop().await;
    assert!(!child.restart().await);
}

#[tokio::test]
async fn a_missing_program_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let reaper = Arc::new(Reaper::start().unwrap());
    let (sender, mut events) = mpsc::channel(EVENT_CAPACITY);
    let mut spec = spec(dir.path(), "", RestartPolicy::Never);
    spec.executable = dir.path().join("nothing-here");
    let _child = ProcessHandle::start(spec, reaper, sender);
    match timeout(WITHIN, events.recv()).await.unwrap().unwrap() {
        ProcessEvent::StartFailed { source, .. } => assert_eq!(source.kind(), io::ErrorKind::NotFound),
        other => panic!("expected a failed start, got {other:?}"),
    }
}

#[test]
fn pauses_double_up_to_the_longest_and_start_over_after_a_stable_life() {
    let mut exits = 0;
    let pauses: Vec<u128> = (0..8)
        .map(|_| {
            let (pause, now) = RestartBackoff::LOCAL.after_exit(exits, Duration::from_secs(1));
            exits = now;
            pause.as_millis()
        })
        .collect();
    assert_eq!(pauses, [200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
    assert_eq!(RestartBackoff::LOCAL.after_exit(40, Duration::from_secs(1)).0, Duration::from_secs(5));
    assert_eq!(RestartBackoff::LOCAL.after_exit(8, Duration::from_secs(31)), (Duration::from_millis(200), 1));
}
