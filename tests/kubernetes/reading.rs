//! One file, one reading: `kubectl` with an API server and the command line accept the same texts, refuse the same, and
//! read the same values. Where the command line is stricter, the table says why.

use anyhow::Context as _;
use dispatch_api::manifest::{Manifest, read_all};
use dispatch_api::validate::ValidatedSystem;
use dispatch_tests::apiserver::ApiServer;
use serde_json::Value;

/// Who accepts a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Both, with the same values.
    Accepted,
    /// Neither.
    Refused,
    /// The API server only. The command line refuses it for this reason.
    Stricter(&'static str),
}

use Verdict::{Accepted, Refused, Stricter};

const DUPLICATE: &str = "one of two values would be lost without a word";
const UNKNOWN: &str = "no rule of the definition knows the time zones";

const HEAD: &str = "apiVersion: dispatch.coactus.io/v1alpha1\nkind: DispatchSystem\nmetadata: { name: seoul }\n";

/// A manifest with these lines in its spec; a line about a required field replaces it.
fn with(lines: &str) -> String {
    let mut text = format!("{HEAD}spec:\n");
    for (name, value) in [("city", "seoul"), ("region", "ap-northeast-2"), ("timezone", "Asia/Seoul")] {
        if !lines.lines().any(|line| line.starts_with(&format!("{name}:"))) {
            text.extend(["  ", name, ": ", value, "\n"]);
        }
    }
    lines.lines().for_each(|line| text.extend(["  ", line, "\n"]));
    text
}

/// Lines of a spec.
const SPECS: &[(&str, Verdict)] = &[
    ("", Accepted),
    ("suspend: true", Accepted),
    ("suspend: True", Accepted),
    ("suspend: yes", Accepted),
    ("suspend: on", Accepted),
    ("suspend: off", Accepted),
    ("suspend: N", Accepted),
    ("suspend: 'yes'", Refused),
    ("suspend: \"true\"", Refused),
    ("suspend: 1", Refused),
    ("suspend: ~", Accepted),
    ("suspend:", Accepted),
    ("city: no", Refused),
    ("city: y", Refused),
    ("city: 'no'", Accepted),
    ("city: \"y\"", Accepted),
    ("city: !!str no", Accepted),
    ("city: 7", Refused),
    ("city: '7'", Accepted),
    ("city: 7eleven", Accepted),
    ("city: 1e3", Refused),
    ("city: 0x1f", Refused),
    ("city: ~", Refused),
    ("city: >-\n  seoul", Accepted),
    ("city: |\n  seoul", Refused),
    ("city: 서울", Refused),
    ("city: \"\\u0073eoul\"", Accepted),
    ("aws: { accountId: 012345678901 }", Refused),
    ("aws: { accountId: 111122223333 }", Refused),
    ("aws: { accountId: '012345678901' }", Accepted),
    ("aws: { tags: { team: no } }", Refused),
    ("aws: { tags: { team: 'no' } }", Accepted),
    ("aws: { tags: { team: 1_000 } }", Refused),
    ("aws: { tags: { cost: '1_000' } }", Accepted),
    ("aws: { tags: { 7: seven } }", Accepted),
    ("aws: { tags: { date: 2024-01-02 } }", Accepted),
    ("aws: null", Accepted),
    ("driftIntervalSeconds: 600", Accepted),
    ("driftIntervalSeconds: 600.0", Accepted),
    ("driftIntervalSeconds: 0600", Accepted),
    ("driftIntervalSeconds: 1e3", Accepted),
    ("driftIntervalSeconds: 6_000", Accepted),
    ("driftIntervalSeconds: 0x258", Accepted),
    ("driftIntervalSeconds: 0b1001011000", Accepted),
    ("driftIntervalSeconds: +600", Accepted),
    ("driftIntervalSeconds: '600'", Refused),
    ("driftIntervalSeconds: 600.5", Refused),
    ("driftIntervalSeconds: -600", Refused),
    ("driftIntervalSeconds: .inf", Refused),
    ("driftIntervalSeconds: .nan", Refused),
    ("driftIntervalSeconds: 5e+10", Refused),
    ("driftIntervalSeconds: 59", Refused),
    ("export: { analytics: { bytesScannedCutoffPerQuery: 5e+10 } }", Accepted),
    ("export: { analytics: { bytesScannedCutoffPerQuery: 50000000000 } }", Accepted),
    ("export: { schedule: '0 4 * * *' }", Accepted),
    ("export: { schedule: 0 4 * * * }", Accepted),
    ("export: { schedule: '0 0 4 * * *' }", Refused),
    ("export: { schedule: 61 99 * * * }", Refused),
    ("export: { schedule: a b c d e }", Refused),
    ("timezone: Asia/Soul", Stricter(UNKNOWN)),
    ("timezone: \"\\e[31mRED\"", Stricter(UNKNOWN)),
    ("queues:\n  offers: &q { retentionSeconds: 600 }\n  responses:\n    <<: *q\n    maxReceiveCount: 3", Accepted),
    ("queues:\n  offers: &q { retentionSeconds: 600 }\n  responses: *q", Accepted),
    ("queues: { offers: { <<: 5 } }", Refused),
    ("queues: { offers: { '<<': { retentionSeconds: 600 } } }", Refused),
    ("suspend: true\nsuspend: false", Stricter(DUPLICATE)),
    ("suspnd: true", Refused),
    ("dispatch: []", Refused),
    ("dispatch: { searchRingsMeters: [700, 700] }", Refused),
    ("dispatch:\n\tmaxAttempts: 3", Refused),
    ("dispatch: { fare: { nightSurcharges: [{ from: 22:00, to: 04:00, percent: 20 }] } }", Accepted),
    ("suspend: !Ref a", Refused),
    ("suspend: true # a comment", Accepted),
];

/// Whole texts.
fn texts() -> Vec<(&'static str, String, Verdict)> {
    let plain = with("suspend: yes");
    let object = "{\"apiVersion\":\"dispatch.coactus.io/v1alpha1\",\"kind\":\"DispatchSystem\",\"metadata\":\
        {\"name\":\"seoul\",\"annotations\":{\"a\":\"\\ud83d\\ude00\"}},\
        \"spec\":{\"city\":\"no\",\"region\":\"ap-northeast-2\",\"timezone\":\"Asia/Seoul\"}}";
    let item = plain.trim_end().replace('\n', "\n  ");
    let list = format!("apiVersion: v1\nkind: List\nitems:\n- {item}\n");
    vec![
        ("a byte order mark", format!("\u{feff}{plain}"), Accepted),
        ("a byte order mark and a marker", format!("\u{feff}---\n{plain}"), Accepted),
        ("line breaks of Windows", plain.replace('\n', "\r\n"), Accepted),
        ("empty documents", format!("---\n---\n{plain}---\n# nothing\n"), Accepted),
        ("JSON with a surrogate pair", object.to_owned(), Accepted),
        ("a list", list.clone(), Accepted),
        ("a list without items", "apiVersion: v1\nkind: List\n".to_owned(), Refused),
        ("a list with a wrong item", list.replace("yes", "'yes'"), Refused),
        ("no name", plain.replace("{ name: seoul }", "{}"), Refused),
        ("conflict markers", format!("<<<<<<< HEAD\n{plain}"), Refused),
        ("a scalar", "seoul".to_owned(), Refused),
        ("another version", plain.replace("v1alpha1", "v1"), Refused),
    ]
}

/// The specs that the command line reads; `None` if it refuses the text.
fn read_by_us(text: &str) -> Option<Vec<Value>> {
    let Manifest { systems, errors } = read_all(text);
    if !errors.is_empty() || systems.is_empty() {
        return None;
    }
    let spec =
        |system| Some(serde_json::to_value(ValidatedSystem::try_from_raw(system).ok()?.spec).unwrap_or_default());
    systems.iter().map(spec).collect()
}

/// The specs that the API server would store; `None` if it or `kubectl` refuses the text.
fn read_by_kubectl(server: &ApiServer, text: &str) -> anyhow::Result<Option<Vec<Value>>> {
    let file = server.file("case.yaml", text)?;
    let output = server.try_kubectl(&["create", "--dry-run=server", "--output=json", "-f", &file])?;
    if !output.status.success() || output.stdout.is_empty() {
        return Ok(None);
    }
    let object: Value = serde_json::from_slice(&output.stdout).context("kubectl prints JSON")?;
    let items = object["items"].as_array().cloned().unwrap_or_else(|| vec![object]);
    Ok(Some(items.into_iter().map(|item| item["spec"].clone()).collect()))
}

#[tokio::test]
async fn a_file_means_the_same_for_kubectl_and_for_the_command_line() -> anyhow::Result<()> {
    let Some(server) = ApiServer::start().await? else { return Ok(()) };
    server.install_crd()?;
    let specs = SPECS.iter().map(|(lines, verdict)| (*lines, with(lines), *verdict));
    let (mut wrong, mut cases) = (Vec::new(), 0);
    for (name, text, verdict) in specs.chain(texts()) {
        cases += 1;
        let (ours, theirs) = (read_by_us(&text), read_by_kubectl(&server, &text)?);
        let is = match (&ours, &theirs) {
            (Some(ours), Some(theirs)) if ours != theirs => {
                wrong.push(format!("{name:?}: we read {ours:?}, kubectl {theirs:?}"));
                continue;
            }
            (Some(_), Some(_)) => "both accept it",
            (None, None) => "both refuse it",
            (None, Some(_)) => "only kubectl accepts it",
            (Some(_), None) => "only we accept it",
        };
        let should = match verdict {
            Accepted => "both accept it",
            Refused => "both refuse it",
            Stricter(why) => {
                println!("{name:?}: we are stricter: {why}");
                "only kubectl accepts it"
            }
        };
        if is != should {
            wrong.push(format!("{name:?}: {is}, expected {verdict:?}"));
        }
    }
    println!("{cases} texts");
    assert!(cases >= 79, "{cases} texts");
    assert!(wrong.is_empty(), "{} of {cases} texts:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}
