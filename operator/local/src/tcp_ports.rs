//! TCP ports of a local run.

use std::env;
use std::fs::{File, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use thiserror::Error;

/// Which port a server asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PortRequest {
    /// Any free port.
    Any,
    /// This port if it is free, otherwise any.
    Preferred(u16),
    /// This port or none.
    Exact(u16),
}

/// Why there is no port for a server.
#[derive(Debug, Error)]
pub enum TcpPortError {
    #[error("cannot listen on 127.0.0.1:{0}; choose another port with --aws-port, or leave the option out")]
    Taken(u16, #[source] io::Error),
    #[error("cannot find a free port on 127.0.0.1")]
    NoneFree(#[source] io::Error),
}

/// Ports for `N` servers. Ports that were asked for by number are claimed until this value is dropped: to another run,
/// a port appears free between its choice and the server's own `bind`, and while a server restarts.
#[derive(Debug)]
pub(crate) struct TcpPorts<const N: usize> {
    /// In the order of the requests.
    pub(crate) numbers: [u16; N],
    _claims: Vec<File>,
}

impl<const N: usize> TcpPorts<N> {
    /// Chooses a port for each request. All ports are held until the last one is chosen, so they differ. If another
    /// program takes one before its server does, that server reports it when it starts.
    pub(crate) fn choose(requests: [PortRequest; N]) -> Result<Self, TcpPortError> {
        Self::choose_with_claims_in(&env::temp_dir(), requests)
    }

    fn choose_with_claims_in(dir: &Path, requests: [PortRequest; N]) -> Result<Self, TcpPortError> {
        let (mut held, mut claims, mut numbers) = (Vec::with_capacity(N), Vec::new(), [0; N]);
        for (number, request) in numbers.iter_mut().zip(requests) {
            let requested = match request {
                PortRequest::Any => None,
                PortRequest::Preferred(port) => claim_and_bind(dir, port).ok(),
                PortRequest::Exact(port) => {
                    Some(claim_and_bind(dir, port).map_err(|error| TcpPortError::Taken(port, error))?)
                }
            };
            let listener = match requested {
                Some((claim, listener)) => {
                    claims.push(claim);
                    listener
                }
                None => bind(0).map_err(TcpPortError::NoneFree)?,
            };
            *number = listener.local_addr().map_err(TcpPortError::NoneFree)?.port();
            held.push(listener);
        }
        Ok(Self { numbers, _claims: claims })
    }
}

fn claim_and_bind(dir: &Path, port: u16) -> io::Result<(File, TcpListener)> {
    Ok((claim(dir, port)?, bind(port)?))
}

/// A lock that all runs on this machine ask for, and that the kernel releases with the process. Its file stays: there
/// are only a few, and after a removal two runs could hold different files of the same name.
fn claim(dir: &Path, port: u16) -> io::Result<File> {
    let path = dir.join(format!("coactus-dispatch-port-{port}.lock"));
    // A file of another user can be locked without being written.
    let file = match OpenOptions::new().write(true).create_new(true).open(&path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => File::open(&path)?,
        created => created?,
    };
    file.try_lock()?;
    Ok(file)
}

fn bind(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
}

#[cfg(test)]
mod tests {
    use super::PortRequest::{Any, Exact, Preferred};
    use super::*;

    fn choose<const N: usize>(requests: [PortRequest; N]) -> Result<TcpPorts<N>, TcpPortError> {
        TcpPorts::choose_with_claims_in(tempfile::tempdir().unwrap().path(), requests)
    }

    fn free() -> u16 {
        bind(0).unwrap().local_addr().unwrap().port()
    }

    #[test]
    fn a_free_port_is_kept_and_a_taken_one_replaced() {
        let holder = bind(0).unwrap();
        let (taken, free) = (holder.local_addr().unwrap().port(), free());
        let ports = choose([Preferred(taken), Preferred(free)]).unwrap();
        assert_ne!(ports.numbers[0], taken);
        assert_eq!(ports.numbers[1], free);
        drop(holder);
    }

    #[test]
    fn an_exact_port_is_given_or_refused() {
        let holder = bind(0).unwrap();
        let (taken, free) = (holder.local_addr().unwrap().port(), free());
        assert_eq!(choose([Exact(free)]).unwrap().numbers, [free]);
        let error = choose([Exact(taken)]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot listen on 127.0.0.1:{taken};")), "{error}");
    }

    #[test]
    fn two_runs_that_start_together_never_choose_the_same_port() {
        let preferred = free();
        let dir = tempfile::tempdir().unwrap();
        let choose = |request| TcpPorts::choose_with_claims_in(dir.path(), [request]);
        let first = choose(Preferred(preferred)).unwrap();
        let second = choose(Preferred(preferred)).unwrap();
        assert_eq!(first.numbers, [preferred]);
        assert_ne!(second.numbers, [preferred]);
        assert!(choose(Exact(preferred)).is_err());
        drop(first);
        assert_eq!(choose(Preferred(preferred)).unwrap().numbers, [preferred]);
    }

    #[test]
    fn no_port_is_chosen_twice() {
        let [a, b, c] = choose([Any, Any, Any]).unwrap().numbers;
        assert!(a != b && b != c && a != c);
    }
}
