//! Addresses of a run, and the AWS identity that it uses.

/// Addresses of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoints {
    /// HTTP API of the runtime.
    pub(crate) http: String,
    /// Web versions of the user's and the driver's app.
    pub(crate) apps: String,
    /// Health and metrics of the runtime.
    pub(crate) admin: String,
    pub(crate) aws: String,
    /// AWS region of the system.
    pub(crate) region: String,
    pub(crate) redis: String,
}

/// Access key and secret key that every emulator accepts and AWS does not.
const EMULATOR_CREDENTIAL: &str = "test";

/// Variables by which a user chooses an AWS identity.
const IDENTITY_ENV: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"];

/// Credentials for an emulator, as environment variables.
pub(crate) fn emulator_credentials() -> [(&'static str, String); 2] {
    ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].map(|name| (name, EMULATOR_CREDENTIAL.to_owned()))
}

/// The AWS identity of the engine and the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AwsIdentity {
    /// That of the emulators.
    Emulated,
    /// That of the user who started the run.
    Inherited,
}

impl AwsIdentity {
    /// The emulators' identity for an emulator that this run starts, and for a loopback address if the environment
    /// names no other identity: AWS itself is never there. `is_set` reports whether an environment variable is set.
    pub(crate) fn for_endpoint(starts_emulator: bool, endpoint: &str, is_set: impl Fn(&str) -> bool) -> Self {
        let host = reqwest::Url::parse(endpoint).ok().and_then(|url| url.host_str().map(str::to_owned));
        let loopback = matches!(host.as_deref(), Some("localhost" | "127.0.0.1" | "[::1]"));
        if starts_emulator || (loopback && !IDENTITY_ENV.iter().any(|name| is_set(name))) {
            Self::Emulated
        } else {
            Self::Inherited
        }
    }
}

#[cfg(test)]
mod tests {
    use super::AwsIdentity::{Emulated, Inherited};
    use super::*;

    #[test]
    fn the_emulators_identity_is_never_used_for_another_machine_or_over_a_given_one() {
        assert_eq!(AwsIdentity::for_endpoint(true, "http://127.0.0.1:4566", |_| true), Emulated);
        assert_eq!(AwsIdentity::for_endpoint(false, "http://localhost:4566", |_| false), Emulated);
        let profile = |name: &str| name == "AWS_PROFILE";
        assert_eq!(AwsIdentity::for_endpoint(false, "http://localhost:4566", profile), Inherited);
        let aws = "https://dynamodb.ap-northeast-2.amazonaws.com";
        assert_eq!(AwsIdentity::for_endpoint(false, aws, |_| false), Inherited);
    }
}
