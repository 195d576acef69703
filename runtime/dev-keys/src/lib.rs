//! Signing keys and access tokens for local runs and tests. They act as an issuer whose tokens a worker accepts only if
//! its configuration names the issuer. No worker has a signing key.

#[cfg(feature = "cli")]
mod args;
mod folder;
mod signing;

#[cfg(feature = "cli")]
pub use args::{KeysArgs, TokenArgs, TokenScope};
pub use folder::{SIGNING_KEY, make, token};
pub use signing::{Claims, SigningError, SigningKey};
