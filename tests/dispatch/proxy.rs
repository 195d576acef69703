//! nginx in front of workers in the layout `Split`, with the rules that the program prints.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use dispatch_tests::support::until;
use reqwest::{Method, StatusCode};
use tokio::net::TcpStream;

use crate::process::{Process, Surroundings, free_port, runtime};
use crate::support::City;
use crate::trip::{Apps, Call, Caller, Reply};

const HTTP_ROLES: [&str; 3] = ["save-dispatch", "driver-response", "status-update"];

/// A running nginx, killed when dropped.
struct Nginx(Child);

impl Nginx {
    /// Starts nginx with these rules for the context `http`. It writes nothing outside the folder.
    async fn start(folder: &Path, rules: &str, port: u16) -> Self {
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("    {name}_temp_path {name};\n"))
            .concat();
        let text = format!(
            "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log nginx-error.log;\nevents {{}}\nhttp {{\n\
             {temporary}    access_log off;\n{rules}}}\n"
        );
        std::fs::write(folder.join("nginx.conf"), text).unwrap();
        let child = Command::new("nginx")
            .arg("-p")
            .arg(folder)
            .args(["-e", "nginx-error.log", "-c", "nginx.conf"])
            .stdin(Stdio::null())
            .spawn()
            .expect("nginx is installed");
        let nginx = Self(child);
        until("nginx to listen", async || TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The printed rules, with the addresses of these processes and of nginx itself.
fn rules(ports: &[(&str, u16)], listen: u16) -> String {
    let args = ["routes", "--output", "nginx", "--system", "seoul", "--namespace", "mobility"];
    let printed = Command::new(runtime()).args(args).output().unwrap();
    assert!(printed.status.success());
    let mut text = String::from_utf8(printed.stdout).unwrap();
    for (role, port) in ports {
        let service = format!("server seoul-{role}.mobility.svc:80;");
        assert!(text.contains(&service), "{text}");
        text = text.replace(&service, &format!("server 127.0.0.1:{port};"));
    }
    text.replace("listen 80;", &format!("listen 127.0.0.1:{listen};"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rides_of_split_workers_complete_through_nginx_with_the_printed_rules() {
    let city = City::create().await;
    let surroundings = Surroundings::new(&city.config.to_json_pretty().unwrap(), city.ministack.endpoint(), None);
    let ports = HTTP_ROLES.map(|role| (role, free_port()));
    let mut workers: Vec<Process> = vec![surroundings.start("algorithm", "dispatch-algorithm", free_port()).await];
    for (role, port) in ports {
        workers.push(surroundings.start(role, role, port).await);
    }
    let listen = free_port();
    let _nginx = Nginx::start(surroundings.folder.path(), &rules(&ports, listen), listen).await;

    let apps = Apps::new(&city, listen);
    let (user, driver) = apps.people("one").await;
    // An event passes nginx while the stream stays open.
    let offer = apps.first_event(&driver, "OFFER").await;
    let mut ride = apps.ask("one").await;
    assert!(offer.await.contains("event: OFFER"));
    apps.accept(&mut ride).await;
    apps.drive(&ride).await;
    assert_eq!(apps.read(&ride).await["status"], "COMPLETED");

    let call = |method: Method, path: &str| Call::new(method, path.to_owned());
    for (caller, wanted, call) in [
        (Caller::User(&user), StatusCode::OK, call(Method::GET, "/v1/users/one/dispatches?limit=1")),
        (Caller::Driver(&driver), StatusCode::OK, call(Method::GET, "/v1/drivers/driver%23one/dispatches")),
        (Caller::Operations, StatusCode::OK, call(Method::GET, "/v1/operations/reviews")),
        (Caller::Operations, StatusCode::OK, call(Method::GET, "/v1/operations/users/one/export")),
        (Caller::User(&user), StatusCode::METHOD_NOT_ALLOWED, call(Method::PATCH, "/v1/drivers/one/availability")),
        (Caller::User(&user), StatusCode::NOT_FOUND, call(Method::GET, "/v1/nothing")),
    ] {
        let Reply::Answer { status, body } = apps.once(caller, &call).await else { panic!("{call:?}") };
        assert_eq!(status, wanted, "{call:?}: {body}");
    }
}
