//! Where the heads of requests begin in the bytes of a connection.
//!
//! hyper reads ahead: bytes after a request may be the beginning of the next one, which then waits in hyper's buffer
//! while its connection seems idle. The scanner follows the same bytes and knows. It decides only how long a connection
//! may wait, never how a request is read.

/// Longest part of a header line that is kept, without its spaces: `content-length` and any length of a body.
const LINE_BYTES_MAX: usize = 32;

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Between two requests.
    Between,
    Head,
    /// A body of which so many bytes are missing.
    Body(u64),
    /// A body whose end only hyper knows.
    Unknown,
}

/// Follows the requests of a connection.
#[derive(Debug)]
pub(super) struct HeadScanner {
    part: Part,
    line: Line,
    /// Length of the body, by the head so far; `None` if it is unknown.
    body: Option<u64>,
}

/// The current line of a head: its first bytes in lower case, without spaces.
#[derive(Debug, Default)]
struct Line {
    bytes: [u8; LINE_BYTES_MAX],
    length: usize,
    is_cut: bool,
}

impl Line {
    fn push(&mut self, byte: u8) {
        match self.bytes.get_mut(self.length) {
            Some(place) => {
                *place = byte.to_ascii_lowercase();
                self.length += 1;
            }
            None => self.is_cut = true,
        }
    }

    fn text(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Default for HeadScanner {
    fn default() -> Self {
        Self { part: Part::Between, line: Line::default(), body: Some(0) }
    }
}

impl HeadScanner {
    /// Whether a head has begun and not ended.
    pub(super) fn is_in_head(&self) -> bool {
        self.part == Part::Head
    }

    /// Whether the end of the current request is unknown, so that the next one cannot be found.
    pub(super) fn is_lost(&self) -> bool {
        self.part == Part::Unknown
    }

    /// Follows the next bytes of the connection.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while let Some((byte, rest)) = bytes.split_first() {
            match self.part {
                Part::Unknown => return,
                Part::Body(missing) => {
                    let taken = usize::try_from(missing).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = &bytes[taken..];
                    self.part = after_body(missing - taken as u64);
                }
                Part::Between | Part::Head => {
                    bytes = rest;
                    self.take(*byte);
                }
            }
        }
    }

    fn take(&mut self, byte: u8) {
        match byte {
            b'\n' if self.part == Part::Head => self.end_line(),
            // Empty lines before a request are allowed.
            b'\n' | b'\r' if self.part == Part::Between => {}
            b'\r' | b' ' | b'\t' => {}
            byte => {
                if self.part == Part::Between {
                    *self = Self { part: Part::Head, ..Self::default() };
                }
                self.line.push(byte);
            }
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let text = line.text();
        if text.is_empty() {
            self.part = self.body.map_or(Part::Unknown, after_body);
        } else if let Some(length) = text.strip_prefix(b"content-length:") {
            let length = std::str::from_utf8(length).ok().and_then(|length| length.parse().ok());
            self.body = self.body.and(length).filter(|_| !line.is_cut);
        } else if text.starts_with(b"transfer-encoding:") {
            self.body = None;
        }
    }
}

fn after_body(missing: u64) -> Part {
    if missing == 0 { Part::Between } else { Part::Body(missing) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn after(bytes: &[u8]) -> Part {
        let mut scanner = HeadScanner::default();
        scanner.feed(bytes);
        scanner.part
    }

    #[test]
    fn the_end_of_a_request_is_found() {
        let get = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        let post = "POST / HTTP/1.1\r\nContent-Length:  5\r\nhost: a\r\n\r\n";
        for (bytes, part) in [
            (String::new(), Part::Between),
            ("\r\n\r\n".to_owned(), Part::Between),
            ("G".to_owned(), Part::Head),
            ("\r\nG".to_owned(), Part::Head),
            (get.to_owned(), Part::Between),
            (get.replace('\r', ""), Part::Between),
            (format!("{get}\r\n{get}"), Part::Between),
            (format!("{get}GET"), Part::Head),
            (format!("{get}{}", &get[..get.len() - 1]), Part::Head),
            (post.to_owned(), Part::Body(5)),
            (format!("{post}12"), Part::Body(3)),
            (format!("{post}12\n\n5"), Part::Between),
            (format!("{post}12345G"), Part::Head),
            (format!("{post}12345{post}GET"), Part::Body(2)),
            (get.replace("host", "content-length: 3\r\nhost"), Part::Body(3)),
            (get.replace("host", "content-length: 0\r\nhost"), Part::Between),
            (get.replace("host", "x-content-length: 3\r\nhost"), Part::Between),
            (get.replace("host", "x: content-length: 3\r\nhost"), Part::Between),
            (get.replace("host", "transfer-encoding: chunked\r\nhost"), Part::Unknown),
            (get.replace("host", "Transfer-Encoding: gzip, chunked\r\nContent-Length: 3\r\nhost"), Part::Unknown),
            (get.replace("host", "content-length: many\r\nhost"), Part::Unknown),
            (get.replace("host", &format!("content-length: {}5\r\nhost", "0".repeat(60))), Part::Unknown),
            (get.replace("host", "content-length: 99999999999999999\r\nhost"), Part::Body(99_999_999_999_999_999)),
            (get.replace("host", "content-length: 999999999999999999\r\nhost"), Part::Unknown),
        ] {
            assert_eq!(after(bytes.as_bytes()), part, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn requests_in_pieces_are_the_same_requests(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..6),
            rest in "[A-Z]{0,5}",
            cuts in prop::collection::vec(0_usize..600, 0..20),
        ) {
            let mut bytes = Vec::new();
            for body in &bodies {
                bytes.extend(format!("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len()).bytes());
                bytes.extend(body);
            }
            bytes.extend(rest.bytes());
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut <= bytes.len()).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut scanner = HeadScanner::default();
            for piece in cuts.windows(2) {
                scanner.feed(&bytes[piece[0]..piece[1]]);
            }
            prop_assert_eq!(scanner.part, if rest.is_empty() { Part::Between } else { Part::Head });
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            after(&bytes);
        }
    }
}
