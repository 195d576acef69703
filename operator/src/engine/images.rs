//! The images a release consists of.
//!
//! `registry.example.com` is a name nobody can own (RFC 2606): no image of this project is published anywhere, so there is no address that could
//! one day serve somebody else's. Who builds the images names them by `--runtime-image`, `image.repository` of the chart, or `images` of a
//! kustomization. Manifests and examples carry these names, which a test holds to this file.

/// The operator.
pub const OPERATOR: &str = concat!("registry.example.com/coactus/dispatch-operator:", env!("CARGO_PKG_VERSION"));
/// The runtime, for workers of systems that name no image.
pub const RUNTIME: &str = concat!("registry.example.com/coactus/dispatch-runtime:", env!("CARGO_PKG_VERSION"));
