//! Signing keys and access tokens for local runs and tests: an issuer of one's own, whose tokens workers take only where their
//! configuration names it. No worker holds a key that signs.

#[cfg(feature = "cli")]
mod args;
mod folder;
mod signing;

#[cfg(feature = "cli")]
pub use args::{KeysArgs, TokenArgs, TokenScope};
pub use folder::{SIGNING_KEY, make, token};
pub use signing::{Claims, SigningError, SigningKey};
