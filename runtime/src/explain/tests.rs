//! Records as the engine writes them, and modified ones.

use dispatch_core::candidate::AcceptanceCounts;
use dispatch_core::geo::Metres;
use dispatch_core::ids::DispatchId;
use dispatch_core::ranking::{LeftOut, PickupTime};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn entrant(number: u32, time: Option<PickupTime>, offered: u32) -> Entrant {
    Entrant {
        driver_id: DriverId::from_suffix(&format!("{number:05}")).unwrap(),
        distance: Metres(f64::from(number) * 150.4),
        time,
        bucket: number * 150 / 200,
        auto_accept: number == 3,
        acceptance: AcceptanceCounts { offered, accepted: offered / 2 },
        idle_ms: 61_000,
    }
}

fn ranking() -> Ranking {
    Ranking {
        nearness: Nearness::Distance { width_m: 200 },
        exploration: Exploration::Explore,
        eligible: 4,
        left_out: LeftOut { resting: 2, too_far: 1, ..LeftOut::default() },
        order: vec![entrant(2, None, 0), entrant(1, None, 9), entrant(3, None, 9)],
    }
}

fn line(ranking: &Ranking) -> Value {
    let id = DispatchId::from_suffix("00001").unwrap();
    let record = RankingRecord::new(&id, "2025-05-25T15:30:00.000+09:00", "0123456789ab", ranking);
    json!({ "level": "INFO", "target": TARGET, "message": "ranked", "dispatch": id.as_str(), "record": record.to_string() })
}

fn explained(lines: &[String], only: Option<&str>) -> (Tally, String) {
    let mut out = Vec::new();
    let tally = explain(lines.join("\n").as_bytes(), &mut out, only).unwrap();
    (tally, String::from_utf8(out).unwrap())
}

#[test]
fn a_ranking_is_printed_and_replayed() {
    let lines = ["not JSON".to_owned(), json!({ "target": "other" }).to_string(), line(&ranking()).to_string()];
    let (tally, text) = explained(&lines, None);
    assert_eq!(tally, Tally { found: 1, wrong: 0 });
    insta::assert_snapshot!(text);
    assert_eq!(explained(&lines, Some("dispatch#00002")).0, Tally::default());
}

#[test]
fn an_order_that_does_not_follow_is_reported() {
    let mut changed = ranking();
    changed.order.swap(1, 2);
    let (tally, text) = explained(&[line(&changed).to_string()], None);
    assert_eq!(tally, Tally { found: 1, wrong: 1 });
    assert!(text.contains("WRONG: replay gives the order driver#00002, driver#00001, driver#00003"), "{text}");
}

#[test]
fn a_record_that_cannot_be_read_is_wrong_and_never_reaches_the_terminal_raw() {
    for (at, value) in [
        ("/version", json!(2)),
        ("/candidates/0/driver", json!("driver#\u{1b}[2J")),
        ("/nearness", json!({ "by": "\u{1b}[2J" })),
    ] {
        let mut line = line(&ranking());
        let mut record: Value = serde_json::from_str(line["record"].as_str().unwrap()).unwrap();
        *record.pointer_mut(at).unwrap() = value;
        line["record"] = json!(record.to_string());
        line["dispatch"] = json!("dispatch#\u{1b}[2J");
        let (tally, text) = explained(&[line.to_string()], None);
        assert_eq!(tally, Tally { found: 1, wrong: 1 }, "{at}");
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
}

proptest! {
    /// The log contains enough: the ranking read back gives the order that was written.
    #[test]
    fn a_written_ranking_is_read_back(
        numbers in prop::collection::btree_set(1..60_u32, 0..20),
        timed in any::<bool>(),
        offered in 0..20_u32,
    ) {
        let time = |number: &u32| {
            timed.then(|| PickupTime { seconds: number * 7, source: TimeSource::Router })
        };
        let order: Vec<Entrant> = numbers.iter().map(|number| entrant(*number, time(number), offered)).collect();
        let nearness = if timed { Nearness::Time { width_s: 30 } } else { Nearness::Exact };
        let written = Ranking { nearness, order, ..ranking() };
        let (_, read) = read(line(&written)["record"].as_str().unwrap()).unwrap();
        prop_assert_eq!(replay(&read), replay(&written));
        prop_assert_eq!(
            (read.nearness, read.exploration, read.left_out),
            (written.nearness, written.exploration, written.left_out)
        );
    }
}
