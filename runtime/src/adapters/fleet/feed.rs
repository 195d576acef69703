//! Parses the entries of the change feed. Pure.

use dispatch_core::geo::Coordinate;
use dispatch_core::ids::DriverId;
use dispatch_core::time::EpochMs;

/// Answer of `XREAD` for one stream: ids and fields of its entries.
pub(super) type Entries = Vec<(String, Vec<String>)>;

/// A change that can affect a search.
#[derive(Clone, PartialEq)]
pub(super) enum Change {
    /// A free driver has moved.
    Moved(DriverId, Coordinate, EpochMs),
    /// The driver must be read again.
    Changed(DriverId),
}

/// The changes in an entry. Unreadable parts are skipped: the index is rebuilt every few minutes, and everything in it
/// is only a proposal.
pub(super) fn changes(fields: &[String]) -> Vec<Change> {
    let [kind, text] = fields else { return Vec::new() };
    match kind.as_str() {
        "p" => text.split(';').filter_map(moved).collect(),
        "d" => text.split(',').filter_map(|id| Some(Change::Changed(DriverId::parse(id).ok()?))).collect(),
        _ => Vec::new(),
    }
}

fn moved(text: &str) -> Option<Change> {
    let mut parts = text.split(',');
    let id = DriverId::parse(parts.next()?).ok()?;
    let (lat, lng) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let at = EpochMs(parts.next()?.parse().ok()?);
    Some(Change::Moved(id, Coordinate::new(lat, lng).ok()?, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(kind: &str, text: &str) -> Vec<String> {
        vec![kind.to_owned(), text.to_owned()]
    }

    fn driver(number: u32) -> DriverId {
        DriverId::parse(format!("driver#{number:05}")).unwrap()
    }

    #[test]
    fn pings_and_changes_are_read() {
        let place = Coordinate::new(37.5, 127.25).unwrap();
        let read = changes(&fields("p", "driver#00001,37.5,127.25,1000;driver#00002,37.5,127.25,1001"));
        let expected = [Change::Moved(driver(1), place, EpochMs(1000)), Change::Moved(driver(2), place, EpochMs(1001))];
        assert!(read == expected);
        assert!(changes(&fields("d", "driver#00001,driver#00002")) == [1, 2].map(|n| Change::Changed(driver(n))));
    }

    #[test]
    fn unreadable_parts_are_skipped() {
        for (kind, text) in [("x", "driver#00001"), ("p", "driver#00001,91,0,1"), ("p", "driver#00001,1"), ("d", "")] {
            assert!(changes(&fields(kind, text)).is_empty(), "{kind} {text}");
        }
        assert_eq!(changes(&fields("p", "rubbish;driver#00001,37.5,127.25,1000")).len(), 1);
        assert!(changes(&[]).is_empty());
    }
}
