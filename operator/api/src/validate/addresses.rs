//! Hosts that no address of a spec may name: those that mean the machine which opens the connection, and those with
//! which a cloud hands out credentials. Workers, API Gateway and the issuer's readers open these connections, so such
//! an address would turn them against their own machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::errors::Findings;
use crate::dispatch_system::DispatchSystemSpec;

/// Whether an address may name the machine that opens the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loopback {
    /// In a cluster, the machine is a node with services of other owners.
    Refused,
    /// A local run: city and services share the machine of the developer.
    Allowed,
}

/// Names of the metadata services of clouds, which resolve inside of them.
const METADATA_NAMES: [&str; 4] =
    ["metadata", "metadata.google.internal", "instance-data", "instance-data.ec2.internal"];

/// Checks the host of every address that the spec names. Values are not repeated, because an address may contain a
/// password.
pub(super) fn check(spec: &DispatchSystemSpec, loopback: Loopback, found: &mut Findings) {
    let auth = spec.api.auth.as_ref();
    let jwt = spec.api.gateway.jwt.as_ref();
    let upstream = spec.api.gateway.upstream.as_ref();
    let all = [
        ("spec.cache.external.url", spec.cache.external.as_ref().map(|cache| &cache.url)),
        ("spec.dispatch.eta.url", spec.dispatch.eta.url.as_ref()),
        ("spec.api.auth.issuer", auth.map(|auth| &auth.issuer)),
        ("spec.api.auth.jwksUrl", auth.and_then(|auth| auth.jwks_url.as_ref())),
        ("spec.api.gateway.jwt.issuer", jwt.map(|jwt| &jwt.issuer)),
        ("spec.api.gateway.upstream.url", upstream.and_then(|upstream| upstream.url.as_ref())),
    ];
    for (path, address) in all {
        let Some(host) = address.and_then(|address| host_of(address)) else { continue };
        let Some(kind) = Reserved::find(host) else { continue };
        let is_allowed = kind == Reserved::Loopback && loopback == Loopback::Allowed;
        if !is_allowed && !found.has(path) {
            found.say(path, kind.refusal());
        }
    }
}

/// Why a host is reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reserved {
    Loopback,
    Metadata,
    NoHost,
    Spelling,
}

impl Reserved {
    fn refusal(self) -> &'static str {
        match self {
            Self::Loopback => "must not be this machine (localhost, 127.0.0.0/8, ::1); name the service's host",
            Self::Metadata => {
                "must not be link-local or a metadata service (169.254.0.0/16, fe80::/10, fd00:ec2::/32), which hands \
                 out credentials; name the service's host"
            }
            Self::NoHost => "must not be an unspecified, multicast or broadcast address; name the service's host",
            Self::Spelling => "must spell an IPv4 address as four decimal numbers, such as 10.0.0.1",
        }
    }

    fn find(host: &str) -> Option<Self> {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        if let Ok(address) = host.parse::<IpAddr>() {
            return Self::find_address(address);
        }
        // Readers of addresses take every host that ends in a number for IPv4, such as 2852039166 or 0xa9fe.0xa9fe
        // (WHATWG URL standard, "ends in a number checker").
        let last = host.rsplit('.').next().unwrap_or_default();
        let hexadecimal = last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        if hexadecimal || (!last.is_empty() && last.bytes().all(|b| b.is_ascii_digit())) {
            return Some(Self::Spelling);
        }
        if host == "localhost" || host.ends_with(".localhost") || host == "localhost.localdomain" {
            return Some(Self::Loopback);
        }
        METADATA_NAMES.contains(&host.as_str()).then_some(Self::Metadata)
    }

    fn find_address(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(v4) => Self::find_v4(v4),
            IpAddr::V6(v6) => Self::find_v6(v6),
        }
    }

    fn find_v4(address: Ipv4Addr) -> Option<Self> {
        match address.octets() {
            [127, ..] => Some(Self::Loopback),
            [169, 254, ..] => Some(Self::Metadata),
            [0 | 224..=255, ..] => Some(Self::NoHost),
            _ => None,
        }
    }

    fn find_v6(address: Ipv6Addr) -> Option<Self> {
        if address.is_loopback() {
            return Some(Self::Loopback);
        }
        if let Some(v4) = embedded_v4(address) {
            return Self::find_v4(v4);
        }
        match address.segments() {
            // Link-local; site-local, which is deprecated; and the services of EC2 at the instance.
            [0xfe80..=0xfeff, ..] | [0xfd00, 0x0ec2, ..] => Some(Self::Metadata),
            [0xff00..=0xffff, ..] => Some(Self::NoHost),
            _ => None,
        }
    }
}

/// The IPv4 address that an IPv6 address stands for: mapped, compatible (RFC 4291), translated by NAT64 (RFC 6052), or
/// reached through 6to4 (RFC 3056).
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let last = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match address.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            Some(last(high, low))
        }
        _ => None,
    }
}

/// The host of an address, without brackets.
fn host_of(address: &str) -> Option<&str> {
    let rest = address.split_once("://")?.1;
    let authority = rest.split(['/', '?', '#', '\\']).next()?;
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    match authority.strip_prefix('[') {
        Some(v6) => v6.split_once(']').map(|(host, _)| host),
        None => authority.split(':').next(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_the_machine_and_of_metadata_services_are_reserved_in_every_spelling() {
        for (host, kind) in [
            ("localhost", Reserved::Loopback),
            ("LOCALHOST.", Reserved::Loopback),
            ("router.localhost", Reserved::Loopback),
            ("127.0.0.1", Reserved::Loopback),
            ("127.255.0.9", Reserved::Loopback),
            ("::1", Reserved::Loopback),
            ("::ffff:127.0.0.1", Reserved::Loopback),
            ("::127.0.0.1", Reserved::Loopback),
            ("169.254.169.254", Reserved::Metadata),
            ("169.254.170.23", Reserved::Metadata),
            ("169.254.169.254.", Reserved::Metadata),
            ("::ffff:a9fe:a9fe", Reserved::Metadata),
            ("64:ff9b::a9fe:a9fe", Reserved::Metadata),
            ("2002:a9fe:a9fe::1", Reserved::Metadata),
            ("fe80::1", Reserved::Metadata),
            ("febf::1", Reserved::Metadata),
            ("fd00:ec2::254", Reserved::Metadata),
            ("metadata.google.internal", Reserved::Metadata),
            ("Instance-Data", Reserved::Metadata),
            ("0.0.0.0", Reserved::NoHost),
            ("::", Reserved::NoHost),
            ("224.0.0.1", Reserved::NoHost),
            ("255.255.255.255", Reserved::NoHost),
            ("ff02::1", Reserved::NoHost),
            ("2852039166", Reserved::Spelling),
            ("0xa9fea9fe", Reserved::Spelling),
            ("169.254.43518", Reserved::Spelling),
            ("0251.0376.0251.0376", Reserved::Spelling),
            ("127.1", Reserved::Spelling),
        ] {
            assert_eq!(Reserved::find(host), Some(kind), "{host}");
        }
        for host in [
            "10.0.0.1",
            "192.168.0.1",
            "172.16.0.1",
            "8.8.8.8",
            "169.253.1.1",
            "fd12:3456::1",
            "2001:db8::1",
            "::ffff:10.0.0.1",
            "redis",
            "localhost.example.com",
            "router.seoul.svc.cluster.local",
            "169-254-169-254.example.com",
            "metadata.example.com",
        ] {
            assert_eq!(Reserved::find(host), None, "{host}");
        }
    }

    #[test]
    fn the_host_of_an_address_is_the_one_that_is_connected_to() {
        for (address, host) in [
            ("https://example.com", Some("example.com")),
            ("http://example.com:5000/route", Some("example.com")),
            ("rediss://[::1]:6379", Some("::1")),
            ("https://[fe80::1]/keys", Some("fe80::1")),
            ("https://good.example@127.0.0.1/x", Some("127.0.0.1")),
            ("https://127.0.0.1\\@good.example", Some("127.0.0.1")),
            ("example.com", None),
        ] {
            assert_eq!(host_of(address), host, "{address}");
        }
    }
}
