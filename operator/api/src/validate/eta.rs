//! `spec.dispatch.eta`: the address of the router.

use super::errors::Findings;
use super::text;
use crate::dispatch_system::{EtaProvider, EtaSpec};

const URL: &str = "spec.dispatch.eta.url";

pub(super) fn check(spec: &EtaSpec, found: &mut Findings) {
    match (&spec.url, spec.provider) {
        (Some(_), EtaProvider::StraightLine) => {
            found.say(URL, "is not allowed with provider StraightLine, which calls no router; remove it");
        }
        (None, EtaProvider::Osrm | EtaProvider::Valhalla) => {
            found.say(URL, "is required with provider OSRM and Valhalla: http://host:port or https://host:port");
        }
        _ => {}
    }
    // The address may contain a password, so it is not repeated.
    if spec.url.as_deref().is_some_and(|url| !text::is_service(url)) {
        found.say(URL, "must be an http:// or https:// address, optionally with a path, without credentials or query");
    }
}
