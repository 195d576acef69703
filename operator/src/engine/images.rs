//! The images of a release.
//!
//! No image of this project is published. `registry.example.com` cannot be registered (RFC 2606), so the default
//! address can never serve a stranger's image. Set your own with `--runtime-image`, `image.repository` of the chart, or
//! `images` of a kustomization. A test checks that manifests and examples use these names.

pub const OPERATOR: &str = concat!("registry.example.com/coactus/dispatch-operator:", env!("CARGO_PKG_VERSION"));
/// Default image of the workers.
pub const RUNTIME: &str = concat!("registry.example.com/coactus/dispatch-runtime:", env!("CARGO_PKG_VERSION"));
