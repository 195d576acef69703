//! TCP ports of a local run.

use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// Chooses one port for each preferred one: itself when it is free, any free one otherwise. All ports are held until the
/// last is chosen, so they differ. Between this choice and the child's `bind` somebody else may take a port; the
/// child then fails to start and says so.
pub fn choose<const N: usize>(preferred: [u16; N]) -> io::Result<[u16; N]> {
    let mut held = Vec::with_capacity(N);
    let mut chosen = [0; N];
    for (port, wish) in chosen.iter_mut().zip(preferred) {
        let listener = bind(wish).or_else(|_| bind(0))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(chosen)
}

fn bind(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_is_kept_and_a_taken_one_replaced() {
        let taken = bind(0).unwrap().local_addr().unwrap().port();
        let holder = bind(taken).unwrap();
        let free = bind(0).unwrap().local_addr().unwrap().port();
        let [first, second] = choose([taken, free]).unwrap();
        assert_ne!(first, taken);
        assert_eq!(second, free);
        drop(holder);
    }

    #[test]
    fn no_port_is_chosen_twice() {
        let [a, b, c] = choose([0, 0, 0]).unwrap();
        assert!(a != b && b != c && a != c);
    }
}
