//! Signing keys and access tokens for local runs and tests: an issuer of one's own, whose tokens workers take only where their
//! configuration names it. No worker holds a key that signs.

#[cfg(feature = "cli")]
mod args;
mod folder;
mod signing;

use dispatch_core::time::EpochMs;

#[cfg(feature = "cli")]
pub use args::{KeysArgs, TokenArgs, TokenScope};
pub use folder::{SIGNING_KEY, make, token};
pub use signing::{Claims, SigningError, SigningKey};

/// The time by which tokens are dated.
#[expect(clippy::disallowed_methods, reason = "a token is dated by the machine's clock")]
fn now() -> EpochMs {
    EpochMs(jiff::Timestamp::now().as_millisecond())
}
