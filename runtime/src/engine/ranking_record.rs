//! The ranking record in the log: a JSON document without positions, names or phone numbers.

use std::fmt;

use dispatch_core::candidate::AcceptanceCounts;
use dispatch_core::geo::Metres;
use dispatch_core::ids::{DispatchId, DriverId, IdError};
use dispatch_core::ranking::{Entrant, Exploration, LeftOut, Nearness, PickupTime, Ranking, TimeSource};
use serde::{Deserialize, Serialize};

/// Log target of the records.
pub const TARGET: &str = "dispatch::ranking";

/// Version of the document's format.
const VERSION: u32 = 1;

/// A ranking, its dispatch, and the rules it followed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RankingRecord {
    version: u32,
    /// The dispatch.
    pub dispatch: String,
    /// Time of the decision in the city's time zone, with its offset.
    pub at: String,
    /// Digest of the city's rules.
    pub rules: String,
    nearness: NearnessRecord,
    turn: TurnRecord,
    eligible: usize,
    left_out: LeftOutRecord,
    candidates: Vec<CandidateRecord>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "by")]
enum NearnessRecord {
    Exact,
    Distance { width_m: u32 },
    Time { width_s: u32 },
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum TurnRecord {
    Best,
    NewDriver,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LeftOutRecord {
    not_active: u32,
    stale: u32,
    already_asked: u32,
    resting: u32,
    too_far: u32,
    fare_too_low: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CandidateRecord {
    rank: usize,
    driver: String,
    distance_m: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time: Option<TimeRecord>,
    bucket: u32,
    auto_accept: bool,
    offered: u32,
    accepted: u32,
    acceptance_per_mille: u32,
    idle_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TimeRecord {
    seconds: u32,
    source: SourceRecord,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum SourceRecord {
    Router,
    StraightLine,
}

impl fmt::Display for RankingRecord {
    /// Writes the document on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl RankingRecord {
    /// The record of `ranking`, decided `at` for `dispatch` by these rules.
    pub fn new(dispatch: &DispatchId, at: &str, rules: &str, ranking: &Ranking) -> Self {
        let LeftOut { not_active, stale, already_asked, resting, too_far, fare_too_low } = ranking.left_out;
        Self {
            version: VERSION,
            dispatch: dispatch.to_string(),
            at: at.to_owned(),
            rules: rules.to_owned(),
            nearness: match ranking.nearness {
                Nearness::Exact => NearnessRecord::Exact,
                Nearness::Distance { width_m } => NearnessRecord::Distance { width_m },
                Nearness::Time { width_s } => NearnessRecord::Time { width_s },
            },
            turn: match ranking.exploration {
                Exploration::Exploit => TurnRecord::Best,
                Exploration::Explore => TurnRecord::NewDriver,
            },
            eligible: ranking.eligible,
            left_out: LeftOutRecord { not_active, stale, already_asked, resting, too_far, fare_too_low },
            candidates: ranking.order.iter().enumerate().map(|(place, one)| CandidateRecord::new(place, one)).collect(),
        }
    }

    /// The recorded ranking, with distances in whole metres.
    pub fn ranking(&self) -> Result<Ranking, IdError> {
        let LeftOutRecord { not_active, stale, already_asked, resting, too_far, fare_too_low } = self.left_out;
        Ok(Ranking {
            nearness: match self.nearness {
                NearnessRecord::Exact => Nearness::Exact,
                NearnessRecord::Distance { width_m } => Nearness::Distance { width_m },
                NearnessRecord::Time { width_s } => Nearness::Time { width_s },
            },
            exploration: match self.turn {
                TurnRecord::Best => Exploration::Exploit,
                TurnRecord::NewDriver => Exploration::Explore,
            },
            eligible: self.eligible,
            left_out: LeftOut { not_active, stale, already_asked, resting, too_far, fare_too_low },
            order: self.candidates.iter().map(CandidateRecord::entrant).collect::<Result<_, _>>()?,
        })
    }

    /// Whether this program knows the format.
    pub fn is_known(&self) -> bool {
        self.version == VERSION
    }
}

impl CandidateRecord {
    fn new(place: usize, entrant: &Entrant) -> Self {
        let time = |time: PickupTime| TimeRecord {
            seconds: time.seconds,
            source: match time.source {
                TimeSource::Router => SourceRecord::Router,
                TimeSource::StraightLine => SourceRecord::StraightLine,
            },
        };
        Self {
            rank: place + 1,
            driver: entrant.driver_id.to_string(),
            distance_m: entrant.distance.rounded(),
            time: entrant.time.map(time),
            bucket: entrant.bucket,
            auto_accept: entrant.auto_accept,
            offered: entrant.acceptance.offered,
            accepted: entrant.acceptance.accepted,
            acceptance_per_mille: entrant.acceptance.rate_per_mille(),
            idle_ms: entrant.idle_ms,
        }
    }

    fn entrant(&self) -> Result<Entrant, IdError> {
        let time = |time: TimeRecord| PickupTime {
            seconds: time.seconds,
            source: match time.source {
                SourceRecord::Router => TimeSource::Router,
                SourceRecord::StraightLine => TimeSource::StraightLine,
            },
        };
        Ok(Entrant {
            driver_id: DriverId::parse(self.driver.as_str())?,
            distance: Metres(self.distance_m.into()),
            time: self.time.map(time),
            bucket: self.bucket,
            auto_accept: self.auto_accept,
            acceptance: AcceptanceCounts { offered: self.offered, accepted: self.accepted },
            idle_ms: self.idle_ms,
        })
    }
}
