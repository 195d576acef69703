//! Formats of strings. Each function is equivalent to the `pattern` of the same field in the schema, without a regular
//! expression engine; tests check both against the same examples.

/// `ap-northeast-2`, `us-gov-west-1`.
pub(super) fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [area, middle @ .., number] = parts.as_slice() else { return false };
    (2..=4).contains(&area.len())
        && is_lower(area)
        && !middle.is_empty()
        && middle.iter().all(|part| is_lower(part))
        && (1..=2).contains(&number.len())
        && is_digits(number)
}

/// Lower-case letters, digits and inner dashes.
pub(super) fn is_dns_label(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A Kubernetes object name: DNS labels separated by dots, at most 253 characters.
pub(super) fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(|label| is_dns_label(label, 253))
}

/// A key of a Secret.
pub(super) fn is_secret_key(text: &str) -> bool {
    (1..=253).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// Three upper-case letters.
pub(super) fn is_currency(text: &str) -> bool {
    text.len() == 3 && text.bytes().all(|b| b.is_ascii_uppercase())
}

/// Twelve digits.
pub(super) fn is_account(text: &str) -> bool {
    text.len() == 12 && is_digits(text)
}

/// An external ID in the trust policy of a role (STS API reference, `AssumeRole`).
pub(super) fn is_external_id(text: &str) -> bool {
    (2..=1224).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+=,.@:/-".contains(&b))
}

/// A DynamoDB table name. The suffix of the lease table takes 7 of the 255 characters.
pub(super) fn is_table_name(text: &str) -> bool {
    (3..=248).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

/// A key prefix in a bucket.
pub(super) fn is_key_prefix(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-/".contains(&b))
        && !text.starts_with('/')
        && !text.ends_with('/')
}

/// `cache.t4g.small`.
pub(super) fn is_node_type(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    matches!(parts.as_slice(), ["cache", family, size] if plain(family) && plain(size))
}

/// Name of an EKS cluster (API reference, `CreateCluster`).
pub(super) fn is_cluster_name(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    (1..=100).contains(&text.len()) && text.bytes().all(good) && text.as_bytes()[0].is_ascii_alphanumeric()
}

/// `subnet-` and 8 or 17 hexadecimal digits.
pub(super) fn is_subnet(text: &str) -> bool {
    text.strip_prefix("subnet-").is_some_and(is_resource_number)
}

/// `sg-` and 8 or 17 hexadecimal digits.
pub(super) fn is_security_group(text: &str) -> bool {
    text.strip_prefix("sg-").is_some_and(is_resource_number)
}

/// The parts of an ARN that validation checks.
pub(super) struct Arn<'a> {
    pub(super) region: &'a str,
    pub(super) account: &'a str,
}

/// Splits an ARN of `service`; the resource must start with `kind` followed by a name. Wildcards and policy variables,
/// which IAM would interpret in a policy, are no ARN of one resource.
pub(super) fn arn_of<'a>(text: &'a str, service: &str, kind: &str) -> Option<Arn<'a>> {
    let mut parts = text.splitn(6, ':');
    let (head, partition, found) = (parts.next()?, parts.next()?, parts.next()?);
    let (region, account, resource) = (parts.next()?, parts.next()?, parts.next()?);
    let aws = partition == "aws" || partition.strip_prefix("aws-").is_some_and(|rest| !rest.is_empty());
    let named = resource.strip_prefix(kind).is_some_and(|name| !name.is_empty());
    let plain = text.len() <= 2048 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+=,.@:/-".contains(&b));
    (head == "arn" && aws && found == service && named && plain).then_some(Arn { region, account })
}

/// Minute of the day of `HH:MM`.
pub(super) fn minute_of_day(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    if hours.len() != 2 || minutes.len() != 2 || !is_digits(hours) || !is_digits(minutes) {
        return None;
    }
    let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
}

/// `scheme://host` or `scheme://host:port`, without credentials and path.
pub(super) fn is_origin(text: &str, schemes: &[&str]) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    schemes.contains(&scheme) && is_authority(rest)
}

/// `https://host` with an optional path: the address of a token issuer.
pub(super) fn is_issuer(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("https://") else { return false };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    is_authority(authority) && path.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:/".contains(&b))
}

/// A value of the claim `aud`: visible ASCII characters and inner spaces, without braces.
pub(super) fn is_audience(text: &str) -> bool {
    (1..=256).contains(&text.len())
        && text.bytes().all(|b| (b' '..=b'~').contains(&b) && !b"{}".contains(&b))
        && !text.starts_with(' ')
        && !text.ends_with(' ')
}

/// Name of a claim or scope: visible ASCII characters without braces.
pub(super) fn is_claim(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && !b"{}".contains(&b))
}

/// `http://host` or `https://host` with an optional path: the address of a service in the city's network.
pub(super) fn is_service(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")) else { return false };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    is_authority(authority) && path.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~/-".contains(&b))
}

/// A container image: a name, followed by a tag or digest.
pub(super) fn is_image(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-/:@".contains(&b);
    (1..=512).contains(&text.len())
        && text.bytes().all(plain)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
}

/// Size of a Kubernetes quantity such as `100m`, `0.5` or `64Mi`; `None` for other strings and for zero.
pub(super) fn quantity(text: &str) -> Option<f64> {
    let digits = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "m" => 1e-3,
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "Ki" => 1024.0,
        "Mi" => 1_048_576.0,
        "Gi" => 1_073_741_824.0,
        _ => return None,
    };
    let bare = !number.starts_with('.') && !number.ends_with('.');
    let number: f64 = number.parse().ok()?;
    (bare && number > 0.0).then_some(number * scale)
}

/// A key of a label or an annotation: `name` or `domain/name`.
pub(super) fn is_qualified_name(text: &str) -> bool {
    let (domain, name) = text.split_once('/').map_or((None, text), |(domain, name)| (Some(domain), name));
    domain.is_none_or(is_dns_subdomain) && !name.is_empty() && is_label_value(name)
}

/// A label value: at most 63 characters, a letter or digit at both ends.
pub(super) fn is_label_value(text: &str) -> bool {
    let edge = |b: Option<u8>| b.is_none_or(|b| b.is_ascii_alphanumeric());
    text.len() <= 63
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && edge(text.bytes().next())
        && edge(text.bytes().next_back())
}

/// The characters that every AWS service allows in tags.
pub(super) fn is_tag_text(text: &str) -> bool {
    text.chars().all(|c| c.is_alphanumeric() || " _.:/=+-@".contains(c))
}

fn is_authority(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) if address.parse::<std::net::Ipv6Addr>().is_ok() => match rest.strip_prefix(':') {
            Some(port) => ("ipv6", Some(port)),
            None if rest.is_empty() => ("ipv6", None),
            None => return false,
        },
        Some(_) => return false,
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let named = (1..=253).contains(&host.len())
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        && host.starts_with(|c: char| c.is_ascii_alphanumeric());
    named && port.is_none_or(|port| is_digits(port) && port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn is_resource_number(text: &str) -> bool {
    matches!(text.len(), 8 | 17) && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn is_lower(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase())
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}
