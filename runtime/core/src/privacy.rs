//! What drivers see of users, and how long data of rides is kept.

use crate::dispatch::DispatchStatus;
use crate::geo::region_of_address;
use crate::time::EpochMs;

/// Digits from which a text may be a phone number.
const PHONE_DIGITS_MIN: usize = 7;

/// Parts of an address that name its district: province, city and ward (`경기도 성남시 분당구`).
const DISTRICT_WORDS_MAX: usize = 3;

/// Longest name of such a part, in characters: `제주특별자치도` has seven.
const DISTRICT_WORD_CHARS_MAX: usize = 8;

/// Short names of cities and provinces, as people write them (`서울 강남구`).
const SHORT_NAMES: [&str; 17] = [
    "서울", "부산", "대구", "인천", "광주", "대전", "울산", "세종", "경기", "강원", "충북", "충남", "전북", "전남",
    "경북", "경남", "제주",
];

/// What a driver sees of a ride before accepting it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OfferAddresses {
    /// The addresses as the user entered them (spec §7.4).
    #[default]
    Full,
    /// The districts of the addresses.
    District,
}

/// The rules of `spec.privacy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrivacyPolicy {
    /// What a driver sees of a ride before accepting it.
    pub offer_addresses: OfferAddresses,
    /// Time after the end of a ride from which its driver sees less of it, ms.
    pub blur_rides_after_ms: u64,
    /// How long data of rides is kept.
    pub retention: Retention,
}

impl Default for PrivacyPolicy {
    fn default() -> Self {
        Self {
            offer_addresses: OfferAddresses::Full,
            // A day to settle complaints and lost property.
            blur_rides_after_ms: 24 * 60 * 60 * 1000,
            retention: Retention::default(),
        }
    }
}

/// How long data of rides is kept, s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// From the end of a dispatch.
    pub dispatches_s: u64,
    /// From the recording of positions.
    pub routes_s: u64,
    /// From an entry of a driver's status history.
    pub histories_s: u64,
}

impl Retention {
    /// How long an entry of a driver's history is kept, s: no shorter than the routes to which it leads.
    pub fn driver_histories_s(&self) -> u64 {
        self.histories_s.max(self.routes_s)
    }
}

impl Default for Retention {
    fn default() -> Self {
        const DAY_S: u64 = 24 * 60 * 60;
        Self { dispatches_s: 365 * DAY_S, routes_s: 30 * DAY_S, histories_s: 365 * DAY_S }
    }
}

/// How much of a dispatch someone sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Addresses and coordinates as stored.
    Exact,
    /// Districts and rounded coordinates.
    District,
}

/// A dispatch as far as it decides what its driver sees.
#[derive(Debug, Clone, Copy)]
pub struct RideView {
    /// The current status.
    pub status: DispatchStatus,
    /// Whether the driver has the open offer or the ride. A driver who rejected it has not.
    pub is_driver: bool,
    /// When the dispatch last changed; `None` if that cannot be read.
    pub changed_at: Option<EpochMs>,
}

impl PrivacyPolicy {
    /// How much of a dispatch a driver sees.
    pub fn detail_for_driver(&self, shown: RideView, now: EpochMs) -> Detail {
        let RideView { status, is_driver, changed_at } = shown;
        let ended = matches!(status, DispatchStatus::Completed | DispatchStatus::Cancelled);
        let is_old = changed_at.is_none_or(|at| now.since_ms(at) >= self.blur_rides_after_ms);
        let accepted = is_driver && status != DispatchStatus::Requested;
        let is_hidden = match (accepted, ended) {
            (true, ended) => ended && is_old,
            // A dispatch that ended before this driver accepted it is as old as its end.
            (false, ended) => self.offer_addresses == OfferAddresses::District || (ended && is_old),
        };
        if is_hidden { Detail::District } else { Detail::Exact }
    }
}

/// An address without what is behind its district: `서울시 중구 명동` is `서울시 중구`. An address without a district is `-`,
/// because any other part of it could be the exact place.
pub fn district_of_address(address: &str) -> String {
    let leading: Vec<&str> =
        address.split_whitespace().take_while(|word| is_district_word(word)).take(DISTRICT_WORDS_MAX).collect();
    if !leading.is_empty() {
        return leading.join(" ");
    }
    let region = region_of_address(address);
    if is_district_word(region) { region.to_owned() } else { "-".to_owned() }
}

fn is_district_word(word: &str) -> bool {
    let chars = word.chars().count();
    let is_hangul = word.chars().all(|c| ('가'..='힣').contains(&c));
    let ends = word.ends_with(['도', '시', '군', '구']) && chars > 1;
    is_hangul && chars <= DISTRICT_WORD_CHARS_MAX && (ends || SHORT_NAMES.contains(&word))
}

/// A coordinate in hundredths of a degree, which is about a kilometre.
pub fn rounded_degrees(degrees: f64) -> f64 {
    (degrees * 100.0).round() / 100.0
}

/// A text without the digits of numbers that may be phone numbers, however they are grouped.
pub fn without_phone_numbers(text: &str) -> String {
    let is_part = |c: char| c.is_numeric() || matches!(c, ' ' | '-' | '+' | '.' | '(' | ')' | '/');
    let (mut kept, mut run) = (String::with_capacity(text.len()), String::new());
    let end_run = |run: &mut String, kept: &mut String| {
        let is_number = run.chars().filter(|c| c.is_numeric()).count() >= PHONE_DIGITS_MIN;
        kept.extend(run.drain(..).filter(|c| !(is_number && c.is_numeric())));
    };
    for c in text.chars() {
        if is_part(c) {
            run.push(c);
        } else {
            end_run(&mut run, &mut kept);
            kept.push(c);
        }
    }
    end_run(&mut run, &mut kept);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shortened_to_its_district() {
        for (address, district) in [
            ("서울시 중구 명동", "서울시 중구"),
            ("서울특별시 강남구 테헤란로 1", "서울특별시 강남구"),
            ("서울 강남구 역삼동 12-3", "서울 강남구"),
            ("대구 수성구 범어동", "대구 수성구"),
            ("경기도 성남시 분당구 정자동 1", "경기도 성남시 분당구"),
            ("부산광역시 기장군 정관읍", "부산광역시 기장군"),
            ("세종특별자치시 한누리대로 5", "세종특별자치시"),
            ("(04536) 서울시 중구 명동", "중구"),
            ("집 앞 중구 명동", "중구"),
        ] {
            assert_eq!(district_of_address(address), district, "{address}");
        }
        for address in ["명동 12-3", "12 Baker Street", "010-1234-5678구", "", "김씨네집앞골목길입구", " "]
        {
            assert_eq!(district_of_address(address), "-", "{address}");
        }
    }

    #[test]
    fn coordinates_are_rounded_to_about_a_kilometre() {
        assert!((rounded_degrees(37.512_349) - 37.51).abs() < 1e-9);
        assert!((rounded_degrees(-0.004) - 0.0).abs() < 1e-9);
    }

    #[test]
    fn phone_numbers_leave_a_text_and_other_numbers_stay() {
        for text in ["01012341234", "전화 010-1234-1234 주세요", "+82 (10) 1234.1234", "０１０１２３４１２３４"]
        {
            let shown = without_phone_numbers(text);
            assert!(!shown.chars().any(char::is_numeric), "{text}: {shown}");
        }
        for text in ["드라이버 수락", "3분 후 도착", "2명 4km 12000원", ""] {
            assert_eq!(without_phone_numbers(text), text);
        }
    }

    #[test]
    fn a_driver_sees_the_exact_place_between_acceptance_and_some_time_after_the_end() {
        use DispatchStatus::{Accepted, Cancelled, Completed, InProgress, Requested};
        let (full, hour) = (PrivacyPolicy { blur_rides_after_ms: 3_600_000, ..PrivacyPolicy::default() }, 3_600_000);
        let district = PrivacyPolicy { offer_addresses: OfferAddresses::District, ..full };
        let now = EpochMs(10 * hour);
        let at = |policy: PrivacyPolicy, status, is_driver, age_ms: i64| {
            let changed_at = Some(EpochMs(now.0 - age_ms));
            policy.detail_for_driver(RideView { status, is_driver, changed_at }, now)
        };
        assert_eq!(at(full, Requested, true, 0), Detail::Exact);
        assert_eq!(at(district, Requested, true, 0), Detail::District);
        assert_eq!(at(district, Requested, false, 0), Detail::District, "after a rejection");
        assert_eq!(at(district, Cancelled, false, 0), Detail::District, "cancelled before the acceptance");
        for status in [Accepted, InProgress] {
            assert_eq!(at(district, status, true, 5 * hour), Detail::Exact, "{status:?}");
        }
        for status in [Completed, Cancelled] {
            assert_eq!(at(full, status, true, hour - 1), Detail::Exact, "{status:?}");
            assert_eq!(at(full, status, true, hour), Detail::District, "{status:?}");
        }
        let unknown = RideView { status: Completed, is_driver: true, changed_at: None };
        assert_eq!(full.detail_for_driver(unknown, now), Detail::District, "a time that cannot be read");
        let at_once = PrivacyPolicy { blur_rides_after_ms: 0, ..full };
        assert_eq!(at(at_once, Completed, true, 0), Detail::District);
    }
}
