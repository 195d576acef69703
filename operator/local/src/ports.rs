//! TCP ports of a local run.

use std::env;
use std::fs::{File, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

/// Ports for `N` servers. The preferred ones among them are claimed for as long as this lives: between the choice of a port
/// and the server's own `bind`, and while a server is being restarted, a port looks free to another run.
#[derive(Debug)]
pub struct Ports<const N: usize> {
    /// The numbers, in the order they were wished for.
    pub numbers: [u16; N],
    _claims: Vec<File>,
}

impl<const N: usize> Ports<N> {
    /// Chooses each preferred port when it is free, any free one otherwise. All are held until the last is chosen, so they
    /// differ. Should another program take a port before its server does, the server fails to start and says so.
    pub fn choose(preferred: [u16; N]) -> io::Result<Self> {
        Self::choose_with_claims_in(&env::temp_dir(), preferred)
    }

    fn choose_with_claims_in(dir: &Path, preferred: [u16; N]) -> io::Result<Self> {
        let (mut held, mut claims, mut numbers) = (Vec::with_capacity(N), Vec::new(), [0; N]);
        for (number, wish) in numbers.iter_mut().zip(preferred) {
            let wished = claim(dir, wish).and_then(|claim| Ok((bind(wish)?, claim)));
            let listener = match wished {
                Ok((listener, claim)) => {
                    claims.push(claim);
                    listener
                }
                Err(_) => bind(0)?,
            };
            *number = listener.local_addr()?.port();
            held.push(listener);
        }
        Ok(Self { numbers, _claims: claims })
    }
}

/// A lock that all runs on this machine ask for and that the kernel releases with the process. Its file stays: there are as
/// many as there are preferred ports, and removing one would let two runs hold different files of the same name.
fn claim(dir: &Path, port: u16) -> io::Result<File> {
    let path = dir.join(format!("coactus-dispatch-port-{port}.lock"));
    // Another user's file can be locked without being written.
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
    use super::*;

    fn choose<const N: usize>(preferred: [u16; N]) -> io::Result<Ports<N>> {
        Ports::choose_with_claims_in(tempfile::tempdir()?.path(), preferred)
    }

    fn free() -> u16 {
        bind(0).unwrap().local_addr().unwrap().port()
    }

    #[test]
    fn a_free_port_is_kept_and_a_taken_one_replaced() {
        let holder = bind(0).unwrap();
        let (taken, free) = (holder.local_addr().unwrap().port(), free());
        let ports = choose([taken, free]).unwrap();
        assert_ne!(ports.numbers[0], taken);
        assert_eq!(ports.numbers[1], free);
        drop(holder);
    }

    #[test]
    fn two_runs_that_start_together_never_choose_the_same_port() {
        let wish = free();
        let dir = tempfile::tempdir().unwrap();
        let choose = |preferred| Ports::choose_with_claims_in(dir.path(), preferred);
        let first = choose([wish]).unwrap();
        let second = choose([wish]).unwrap();
        assert_eq!(first.numbers, [wish]);
        assert_ne!(second.numbers, [wish]);
        drop(first);
        assert_eq!(choose([wish]).unwrap().numbers, [wish]);
    }

    #[test]
    fn no_port_is_chosen_twice() {
        let [a, b, c] = choose([0, 0, 0]).unwrap().numbers;
        assert!(a != b && b != c && a != c);
    }
}
