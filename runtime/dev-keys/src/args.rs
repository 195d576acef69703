//! The options of `keys` and `token`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::folder::token;
use crate::signing::{Claims, SigningError};

/// The options of `keys`. Pass the folder to [`make`](crate::make).
#[derive(Debug, Clone, Args)]
pub struct KeysArgs {
    /// Existing folder for the keys. The secret key is written to `signing-key.json`, the public key to `jwks.json`
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
}

/// The options of `token`.
#[derive(Debug, Clone, Args)]
pub struct TokenArgs {
    /// File of the signing key
    #[arg(long, value_name = "FILE", env = "DISPATCH_SIGNING_KEY")]
    pub key: PathBuf,
    /// Subject of the token: user#00001, driver#00001, or any name for the scopes payments and operations
    #[arg(long = "sub", value_name = "SUBJECT")]
    pub subject: String,
    /// Scopes of the token: user, driver, payments or operations; separate several with commas
    #[arg(long, value_name = "SCOPES", value_delimiter = ',', required = true)]
    pub scope: Vec<TokenScope>,
    /// Lifetime of the token, in hours
    #[arg(long, value_name = "HOURS", default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..=720))]
    pub hours: u16,
}

impl TokenArgs {
    /// Issues the token.
    pub fn token(&self) -> Result<String, SigningError> {
        let scopes: Vec<&str> = self.scope.iter().map(|scope| scope.as_str()).collect();
        let lifetime = Duration::from_hours(self.hours.into());
        token(&self.key, &Claims { subject: &self.subject, scopes: &scopes, lifetime })
    }
}

/// A scope of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TokenScope {
    /// Act as a user
    User,
    /// Act as a driver
    Driver,
    /// Report payments
    Payments,
    /// Act as the city's staff or programs
    Operations,
}

impl TokenScope {
    fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Driver => "driver",
            Self::Payments => "payments",
            Self::Operations => "operations",
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        token: TokenArgs,
    }

    #[test]
    fn a_token_needs_a_scope() {
        let words = ["token", "--key", "k", "--sub", "user#00001", "--scope", "user,driver"];
        let token = Cli::try_parse_from(words).unwrap().token;
        assert_eq!((token.scope.len(), token.hours), (2, 12));
        assert!(Cli::try_parse_from(&words[..5]).is_err(), "--scope is required");
    }
}
