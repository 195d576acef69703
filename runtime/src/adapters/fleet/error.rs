//! What an error of Redis means: whether the same call can succeed later, and whether the connections can be kept.

use redis::{ErrorKind, RedisError};

use crate::ports::PortError;

/// `Unavailable` if the same call can succeed later, `Failed` otherwise.
pub(super) fn failed(action: &'static str, error: RedisError) -> PortError {
    let is_permanent = Meaning::new(&error).class == Class::Permanent;
    let source = Box::new(error);
    if is_permanent { PortError::Failed { action, source } } else { PortError::Unavailable { action, source } }
}

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// The same call can succeed later, on the same connection if that is intact.
    Later,
    /// The node is not the primary, or may no longer be. The call can succeed later on the node that the name of the
    /// cache leads to by then, so every connection is replaced.
    WrongNode,
    /// The server does not accept the session, for example after the token was rotated. The call can succeed on a
    /// connection that sends the current token, so every connection is replaced.
    Session,
    /// The call or a stored value is wrong.
    Permanent,
}

/// The class of an error, and its code as a label with few values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meaning {
    pub class: Class,
    pub code: &'static str,
}

/// Every error code of a Redis server that a client without transactions on a server without modules can meet. A code
/// that is not listed can pass: the next version of the server may have new ones, and a call repeated in vain costs
/// less than a lost message.
const CODES: [(&str, Class); 30] = [
    ("READONLY", Class::WrongNode),
    ("MOVED", Class::WrongNode),
    ("ASK", Class::WrongNode),
    ("CLUSTERDOWN", Class::WrongNode),
    ("MASTERDOWN", Class::WrongNode),
    ("NOMASTERLINK", Class::WrongNode),
    // A primary cut off from its replicas: they may have another one.
    ("NOREPLICAS", Class::WrongNode),
    ("NOGOODSLAVE", Class::WrongNode),
    // A node that restarts was replaced, unless it comes back in time.
    ("LOADING", Class::WrongNode),
    // Ends a blocking read when the node becomes a replica.
    ("UNBLOCKED", Class::WrongNode),
    ("NOAUTH", Class::Session),
    ("WRONGPASS", Class::Session),
    ("NOPERM", Class::Session),
    ("DENIED", Class::Session),
    ("OOM", Class::Later),
    ("MISCONF", Class::Later),
    ("IOERR", Class::Later),
    ("BUSY", Class::Later),
    ("INPROG", Class::Later),
    ("TRYAGAIN", Class::Later),
    ("NOSCRIPT", Class::Later),
    ("EXECABORT", Class::Later),
    ("WRONGTYPE", Class::Permanent),
    ("CROSSSLOT", Class::Permanent),
    ("NOPROTO", Class::Permanent),
    ("NOSUB", Class::Permanent),
    ("NOTBUSY", Class::Permanent),
    ("BUSYGROUP", Class::Permanent),
    ("BUSYKEY", Class::Permanent),
    ("NOGROUP", Class::Permanent),
];

/// The code of errors that have none of their own.
const GENERAL_CODE: &str = "ERR";

/// Texts of the general code that do not concern the call, and the code whose meaning they have.
const GENERAL: [(&str, &str); 6] = [
    ("max number of clients", "BUSY"),
    ("invalid password", "WRONGPASS"),
    ("no password is set", "WRONGPASS"),
    ("without any password", "WRONGPASS"),
    ("operation not permitted", "NOAUTH"),
    ("The user executing the script can't", "NOPERM"),
];

impl Meaning {
    pub(super) fn new(error: &RedisError) -> Self {
        let pass = |code| Self { class: Class::Later, code };
        match error.kind() {
            ErrorKind::Io => pass(if error.is_timeout() { "timeout" } else { "io" }),
            ErrorKind::ClusterConnectionNotFound
            | ErrorKind::MasterNameNotFoundBySentinel
            | ErrorKind::NoValidReplicasFoundBySentinel => pass("other"),
            ErrorKind::AuthenticationFailed => Self { class: Class::Session, code: "WRONGPASS" },
            ErrorKind::Server(_) | ErrorKind::Extension => Self::from_server(error),
            // The rest was detected by the client: wrong settings, or an answer of another type than expected.
            _ => Self { class: Class::Permanent, code: "client" },
        }
    }

    /// The answers of a pipeline have several errors; the gravest counts.
    fn from_server(error: &RedisError) -> Self {
        let errors = error.clone().into_server_errors();
        let all = errors.iter().flat_map(|errors| errors.iter()).map(|(_, error)| {
            let text = error.details().unwrap_or_default();
            Self::from_code(error.code(), text)
        });
        let gravest = all.max_by_key(|meaning| match meaning.class {
            Class::Permanent => 0,
            Class::Later => 1,
            Class::WrongNode => 2,
            Class::Session => 3,
        });
        gravest.unwrap_or_else(|| Self::from_code(error.code().unwrap_or_default(), error.detail().unwrap_or_default()))
    }

    fn from_code(code: &str, text: &str) -> Self {
        let known = |word: &str| CODES.iter().find(|(code, _)| *code == word);
        if let Some((code, class)) = known(code) {
            return Self { class: *class, code };
        }
        if code != GENERAL_CODE {
            return Self { class: Class::Later, code: "other" };
        }
        let equivalent = GENERAL.iter().find(|(part, _)| text.contains(part)).and_then(|(_, code)| known(code));
        // Before Redis 7 an error within a script is a general one, with the code somewhere in its text.
        let mut words = text.split(|letter: char| !letter.is_ascii_uppercase());
        let within = equivalent.or_else(|| words.find_map(known));
        within
            .map_or(Self { class: Class::Permanent, code: GENERAL_CODE }, |(code, class)| Self { class: *class, code })
    }
}

#[cfg(test)]
mod tests {
    use redis::{ServerErrorKind, Value, parse_redis_value};

    use super::*;

    /// The error that the client makes of an error reply.
    fn answered(line: &str) -> RedisError {
        let value = parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        let Value::ServerError(error) = value else { panic!("{value:?}") };
        error.into()
    }

    fn class(error: &RedisError) -> Class {
        Meaning::new(error).class
    }

    #[test]
    fn every_error_reply_has_its_class() {
        for (line, expected) in [
            ("READONLY You can't write against a read only replica.", Class::WrongNode),
            ("READONLY You can't write against a read only replica. script: 1f, on @user_script:1.", Class::WrongNode),
            ("MOVED 3999 127.0.0.1:6381", Class::WrongNode),
            ("ASK 3999 127.0.0.1:6381", Class::WrongNode),
            ("CLUSTERDOWN The cluster is down", Class::WrongNode),
            ("CLUSTERDOWN Hash slot not served", Class::WrongNode),
            ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", Class::WrongNode),
            ("NOMASTERLINK Can't SYNC while not connected with my master", Class::WrongNode),
            ("NOREPLICAS Not enough good replicas to write.", Class::WrongNode),
            ("LOADING Redis is loading the dataset in memory", Class::WrongNode),
            ("UNBLOCKED force unblock from blocking operation, instance state changed", Class::WrongNode),
            ("NOAUTH Authentication required.", Class::Session),
            ("WRONGPASS invalid username-password pair or user is disabled.", Class::Session),
            ("NOPERM User default has no permissions to run the 'evalsha' command", Class::Session),
            ("DENIED Redis is running in protected mode", Class::Session),
            ("ERR invalid password", Class::Session),
            ("ERR operation not permitted", Class::Session),
            ("ERR Client sent AUTH, but no password is set", Class::Session),
            ("ERR AUTH <password> called without any password configured for the default user", Class::Session),
            ("OOM command not allowed when used memory > 'maxmemory'.", Class::Later),
            ("MISCONF Redis is configured to save RDB snapshots, but unable to persist to disk.", Class::Later),
            ("BUSY Redis is busy running a script. You can only call SCRIPT KILL", Class::Later),
            ("TRYAGAIN Multiple keys request during rehashing of slot", Class::Later),
            ("NOSCRIPT No matching script. Please use EVAL.", Class::Later),
            ("EXECABORT Transaction discarded because of previous errors.", Class::Later),
            ("IOERR error or timeout writing to target instance", Class::Later),
            ("ERR max number of clients reached", Class::Later),
            ("ERR The user executing the script can't run this command or subcommand script: 1f", Class::Session),
            ("ERR The user executing the script can't access at least one of the keys", Class::Session),
            ("SOMETHINGNEW of the next version", Class::Later),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", Class::Permanent),
            ("CROSSSLOT Keys in request don't hash to the same slot", Class::Permanent),
            ("NOPROTO unsupported protocol version", Class::Permanent),
            ("ERR wrong number of arguments for 'get' command", Class::Permanent),
            ("ERR value is not an integer or out of range", Class::Permanent),
            ("ERR unknown command 'GEOSEARCH', with args beginning with:", Class::Permanent),
        ] {
            assert_eq!(class(&answered(line)), expected, "{line}");
        }
        for (code, expected) in CODES {
            assert_eq!(Meaning::new(&answered(&format!("{code} some text"))), Meaning { class: expected, code });
        }
    }

    #[test]
    fn an_error_within_a_script_before_redis_7_has_the_class_of_its_code() {
        let within =
            |text: &str| answered(&format!("ERR Error running script (call to f_1a2b): @user_script:27: {text}"));
        for (text, expected) in [
            ("@user_script: 27: -READONLY You can't write against a read only replica.", Class::WrongNode),
            ("@user_script: 27: -OOM command not allowed when used memory > 'maxmemory'.", Class::Later),
            ("@user_script: 27: -NOREPLICAS Not enough good replicas to write.", Class::WrongNode),
            ("@user_script: 27: -MISCONF Redis is configured to save RDB snapshots", Class::Later),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", Class::Permanent),
            ("attempt to compare nil with number", Class::Permanent),
        ] {
            assert_eq!(class(&within(text)), expected, "{text}");
        }
    }

    #[test]
    fn errors_of_the_connection_can_pass_and_errors_of_the_client_cannot() {
        let late = RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
        assert_eq!(Meaning::new(&late), Meaning { class: Class::Later, code: "timeout" });
        let kind = |kind: ErrorKind| RedisError::from((kind, "for a test"));
        for (error, expected) in [
            (ErrorKind::Io, Class::Later),
            (ErrorKind::ClusterConnectionNotFound, Class::Later),
            (ErrorKind::AuthenticationFailed, Class::Session),
            (ErrorKind::Server(ServerErrorKind::ReadOnly), Class::WrongNode),
            (ErrorKind::Parse, Class::Permanent),
            (ErrorKind::UnexpectedReturnType, Class::Permanent),
            (ErrorKind::InvalidClientConfig, Class::Permanent),
        ] {
            assert_eq!(class(&kind(error)), expected, "{error:?}");
        }
    }

    #[test]
    fn only_permanent_errors_fail_for_good() {
        for (line, is_permanent) in [("OOM command not allowed", false), ("NOAUTH", false), ("WRONGTYPE", true)] {
            let failed = failed("testing", answered(line));
            assert_eq!(matches!(failed, PortError::Failed { .. }), is_permanent, "{line}");
        }
    }
}
