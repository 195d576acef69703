//! Heads that begin behind another request.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::wire::{Server, ask, is_closed, read_all, resting, status};
use super::{Who, World};
use crate::http::listener::Bounds;

const HALF_HEAD: &str = "GET /v1/users/00001 HTTP/1.1\r\nhost: d\r\nx-slow: ";

/// A server with little time for a head and much for an idle connection.
async fn server(world: &World) -> Server {
    Server::start(world, Bounds { head_within: Duration::from_millis(400), ..Bounds::default() }).await
}

/// A request with this body, sent with its length or in chunks.
fn put(length: &str, body: &str) -> String {
    let token = Who::User("00001".to_owned()).token();
    format!(
        "PUT /v1/users/00001 HTTP/1.1\r\nhost: d\r\ncontent-type: application/json\r\n{length}\r\n\
         authorization: Bearer {token}\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn half_a_head_behind_a_request_has_the_time_of_a_head() {
    let world = World::new();
    let server = server(&world).await;
    let request = resting("/v1/users/00001");
    let with_body = put("content-length: 9", "{\"a\": 17}");
    for (first, answer) in [(request.clone(), "404"), (with_body, "422"), (request.repeat(3), "404")] {
        for half in [HALF_HEAD, "G"] {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            let begun = Instant::now();
            stream.write_all(format!("{first}{half}").as_bytes()).await.unwrap();
            let answers = read_all(&mut stream).await;
            assert_eq!(status(&answers), answer);
            assert!(begun.elapsed() < Duration::from_secs(5), "closed after {:?}", begun.elapsed());
        }
    }
    // Without it, the connection stays for the next request.
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    for _ in 0..2 {
        assert_eq!(status(&ask(&mut stream, &request).await), "404");
        assert_eq!(status(&ask(&mut stream, &put("content-length: 9", "{\"a\": 17}")).await), "422");
        tokio::time::sleep(Duration::from_millis(900)).await;
    }
    // The rest of a half head in time is a request.
    let (begin, end) = request.split_at(40);
    assert_eq!(status(&ask(&mut stream, &format!("{request}{begin}")).await), "404");
    assert_eq!(status(&ask(&mut stream, end).await), "404");
}

#[tokio::test]
async fn a_connection_ends_with_a_request_whose_end_is_unknown() {
    let world = World::new();
    let server = server(&world).await;
    let chunked = put("transfer-encoding: chunked", "9\r\n{\"a\": 17}\r\n0\r\n\r\n");
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let answer = ask(&mut stream, &format!("{chunked}{HALF_HEAD}")).await;
    assert_eq!(status(&answer), "422");
    assert!(answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
    assert!(tokio::time::timeout(Duration::from_secs(5), is_closed(&mut stream)).await.unwrap());
}
