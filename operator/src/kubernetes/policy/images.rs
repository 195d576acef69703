//! Which images an entry of a list allows. Pure.

/// Registry of an image whose name has none.
const DEFAULT_REGISTRY: &str = "docker.io";
/// Path of an image of that registry whose name has a single part.
const DEFAULT_PATH: &str = "library";
/// Algorithm of digests, and the number of their hexadecimal digits.
const DIGEST: (&str, usize) = ("sha256:", 64);

/// The parts of a reference to an image.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Image<'a> {
    /// Registry and path, without tag and digest.
    repository: String,
    digest: Option<&'a str>,
}

impl<'a> Image<'a> {
    /// Reads a reference as container runtimes do. `None` if it is not one that they accept.
    fn parse(text: &'a str) -> Option<Self> {
        let (named, digest) = text.split_once('@').map_or((text, None), |(named, digest)| (named, Some(digest)));
        if digest.is_some_and(|digest| !is_digest(digest)) {
            return None;
        }
        // A colon before the last slash separates a port.
        let last = named.rfind('/').map_or(0, |slash| slash + 1);
        let (repository, tag) = match named.get(last..)?.split_once(':') {
            Some((name, tag)) => (named.get(..last + name.len())?, Some(tag)),
            None => (named, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return None;
        }
        let repository = match repository.split_once('/') {
            Some((registry, _)) if is_registry(registry) => repository.to_owned(),
            Some(_) => format!("{DEFAULT_REGISTRY}/{repository}"),
            None => format!("{DEFAULT_REGISTRY}/{DEFAULT_PATH}/{repository}"),
        };
        is_path(&repository).then_some(Self { repository, digest })
    }
}

/// Whether an entry allows an image. An entry is
///
/// - a digest, `sha256:…`, which allows the content wherever it is stored,
/// - a registry, or a registry with a path: `registry.example.com/team` allows that repository and those below it, with
///   any tag or digest, and not `registry.example.com/team-b`,
/// - a complete reference with a tag or a digest, which allows exactly this text.
pub fn allows(entry: &str, image: &str) -> bool {
    let Some(Image { repository, digest }) = Image::parse(image) else { return false };
    if is_digest(entry) {
        return digest == Some(entry);
    }
    let prefix = entry.strip_suffix('/').unwrap_or(entry);
    let below = repository.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    entry == image || (is_prefix(prefix) && below)
}

/// Whether an entry can allow an image at all.
pub fn is_entry(entry: &str) -> bool {
    let is_name = || is_prefix(entry.strip_suffix('/').unwrap_or(entry)) || Image::parse(entry).is_some();
    // A digest that is too short would be the tag of an image with the name of the algorithm.
    is_digest(entry) || (!entry.starts_with(DIGEST.0) && is_name())
}

/// A registry, or a registry with a path. Without the registry, a prefix would depend on the default of the runtime.
fn is_prefix(entry: &str) -> bool {
    let (registry, path) = entry.split_once('/').map_or((entry, None), |(registry, path)| (registry, Some(path)));
    is_registry(registry) && path.is_none_or(|path| path.split('/').all(is_part))
}

/// The first part of a name is a registry if it cannot be a path: it has a dot or a port, or is `localhost`.
fn is_registry(text: &str) -> bool {
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    (host.contains('.') || port.is_some() || host == "localhost")
        && host.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-')
        && edge(host.chars().next())
        && edge(host.chars().next_back())
        && !host.contains("..")
        && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

fn is_path(repository: &str) -> bool {
    repository.split_once('/').is_some_and(|(_, path)| path.split('/').all(is_part))
}

/// A part of a path. `..` is none, so that no path leads above an allowed one.
fn is_part(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c))
        && edge(text.chars().next())
        && edge(text.chars().next_back())
}

fn is_tag(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        && !text.starts_with(['.', '-'])
}

fn is_digest(text: &str) -> bool {
    let (algorithm, digits) = DIGEST;
    let hexadecimal = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.strip_prefix(algorithm).is_some_and(|rest| rest.len() == digits && rest.bytes().all(hexadecimal))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST_A: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const DIGEST_B: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    #[test]
    fn a_prefix_ends_at_the_boundary_of_a_path() {
        let team = "registry.example/team";
        for image in [
            "registry.example/team",
            "registry.example/team:1",
            "registry.example/team/x",
            "registry.example/team/x:1",
            "registry.example/team/x/y:1.2-a_b",
        ] {
            assert!(allows(team, image) && allows("registry.example/team/", image), "{image}");
            assert!(allows("registry.example", image), "{image}");
        }
        for image in [
            "registry.example/team-evil/x",
            "registry.example/teamx",
            "registry.example/tea",
            "registry.example/other/team/x",
            "registry.example/team/../evil/x",
            "registry.example/team/./x",
            "registry.example/team//x",
            "registry.example/team/",
            "registry.example:5000/team/x",
            "registry.example.evil/team/x",
            "evil/registry.example/team/x",
            "docker.io/registry.example/team",
            "team/x",
            "x",
            "",
            "registry.example/team:",
            "registry.example/team/x:a:b",
            "registry.example/Team/x",
            "registry.example/team/x@sha256:short",
        ] {
            assert!(!allows(team, image), "{image}");
        }
    }

    #[test]
    fn a_digest_allows_its_content_and_no_other() {
        let at = |digest: &str| format!("docker.io/any/thing@{digest}");
        assert!(allows(DIGEST_A, &at(DIGEST_A)) && allows(DIGEST_A, &format!("x:1@{DIGEST_A}")));
        for image in [
            at(DIGEST_B),
            "docker.io/any/thing:1".to_owned(),
            format!("docker.io/any/thing@{DIGEST_A}a"),
            format!("docker.io/any/thing@{DIGEST_A}@{DIGEST_B}"),
            format!("docker.io/any/thing@{DIGEST_B}@{DIGEST_A}"),
            format!("docker.io/any/{DIGEST_A}"),
            at(&DIGEST_A.to_uppercase()),
            DIGEST_A.to_owned(),
        ] {
            assert!(!allows(DIGEST_A, &image), "{image}");
        }
    }

    #[test]
    fn a_complete_reference_allows_itself_alone() {
        let entry = format!("registry.example/team/x:1@{DIGEST_A}");
        assert!(allows(&entry, &entry));
        assert!(allows("registry.example/team/x:1", "registry.example/team/x:1"));
        for image in ["registry.example/team/x:2", "registry.example/team/x", "registry.example/team/x:1/y", &entry] {
            assert!(!allows("registry.example/team/x:1", image), "{image}");
        }
    }

    #[test]
    fn a_name_without_a_registry_is_one_of_the_default_registry() {
        for image in ["nginx", "nginx:1", "team/x"] {
            assert!(allows("docker.io", image), "{image}");
        }
        assert!(allows("docker.io/library", "nginx") && !allows("docker.io/library", "team/x"));
        assert!(allows("docker.io/team", "team/x") && allows("localhost/x", "localhost/x"));
        assert!(allows("localhost:5000", "localhost:5000/x:1"));
        for entry in ["team", "nginx", "", "/", "*", "registry.example/*", "Any", "registry.example/team/*"] {
            assert!(!allows(entry, "team/x") && !allows(entry, "nginx:1"), "{entry}");
            assert!(!allows(entry, "registry.example/team/x"), "{entry}");
        }
    }

    #[test]
    fn an_entry_that_can_allow_nothing_is_recognised() {
        for entry in ["registry.example", "registry.example/team/", "localhost:5000", DIGEST_A, "nginx:1"] {
            assert!(is_entry(entry), "{entry}");
        }
        for entry in
            ["", "*", "registry.example/*", "sha256:short", "registry.example/Team", "https://registry.example"]
        {
            assert!(!is_entry(entry), "{entry}");
        }
    }
}
