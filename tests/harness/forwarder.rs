//! A TCP forwarder that acts like a DNS name: new connections go to the current target, existing ones stay where they
//! are.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A running forwarder. Its connections end when it is dropped.
pub struct Forwarder {
    port: u16,
    target: Arc<Mutex<u16>>,
    /// Incremented to stop the traffic of existing connections.
    silenced: watch::Sender<u64>,
    accepting: JoinHandle<()>,
}

impl Forwarder {
    /// Forwards to a port of this machine.
    pub async fn to(target: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (port, target) = (listener.local_addr()?.port(), Arc::new(Mutex::new(target)));
        let (silenced, _) = watch::channel(0);
        let (to, silence) = (Arc::clone(&target), silenced.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let target = *to.lock();
                tokio::spawn(forward(client, target, silence.subscribe()));
            }
        });
        Ok(Self { port, target, silenced, accepting })
    }

    /// Address for a Redis client.
    pub fn redis_url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Leads new connections to another port.
    pub fn lead_to(&self, target: u16) {
        *self.target.lock() = target;
    }

    /// Keeps existing connections open and forwards nothing on them any more, like a machine that has vanished.
    pub fn silence(&self) {
        self.silenced.send_modify(|count| *count += 1);
    }
}

async fn forward(mut client: TcpStream, target: u16, mut silence: watch::Receiver<u64>) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", target)).await else { return };
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        silenced = silence.changed() => if silenced.is_ok() {
            // Holds both connections until the forwarder ends.
            while silence.changed().await.is_ok() {}
        }
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
