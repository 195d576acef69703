//! The calls of AWS that a dispatch takes, counted call by call in the model.
//!
//! Items of up to 1 KB are one write unit, two in a transaction; each index an item is in takes one more, two where its key changes
//! there. What ours takes is what a test counts at the endpoint of a real worker, eight calls for a first offer that is accepted, and its part
//! of the calls that bring ten messages at once. Reading the stream is not counted: it depends on shards and time, not on dispatches.

use std::ops::AddAssign;

use super::arm::Arm;

/// Part of a call where messages are received and deleted ten at a time.
const OF_A_BATCH: f64 = 0.1;
/// Time one poll of a queue lasts, ms.
const POLL_MS: u64 = 20_000;

/// Calls and units.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Bill {
    /// Reading calls to DynamoDB.
    pub reads: f64,
    /// Writing calls to DynamoDB.
    pub writes: f64,
    /// Calls to SQS.
    pub sqs: f64,
    /// Calls to SNS.
    pub sns: f64,
    /// Read units.
    pub read_units: f64,
    /// Write units of the table.
    pub write_units: f64,
    /// Write units of its indexes.
    pub index_units: f64,
}

impl AddAssign for Bill {
    fn add_assign(&mut self, other: Self) {
        self.reads += other.reads;
        self.writes += other.writes;
        self.sqs += other.sqs;
        self.sns += other.sns;
        self.read_units += other.read_units;
        self.write_units += other.write_units;
        self.index_units += other.index_units;
    }
}

impl Bill {
    fn read(&mut self, calls: f64, units: f64) {
        self.reads += calls;
        self.read_units += units;
    }

    fn write(&mut self, units: f64, index_units: f64) {
        self.writes += 1.0;
        self.write_units += units;
        self.index_units += index_units;
    }
}

/// How an offer ended without a ride.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRide {
    /// The driver said so.
    Rejected,
    /// The driver said nothing.
    TimedOut,
}

/// A request is stored: the dispatch with its two indexes, and the user, who changes partitions of GSI1.
pub fn request_stored(arm: Arm, bill: &mut Bill) {
    if arm.is_literal() {
        // GetItem of the user, PutItem, UpdateItem.
        bill.read(1.0, 1.0);
        bill.write(1.0, 2.0);
        bill.write(1.0, 2.0);
    } else {
        // TransactWriteItems of both.
        bill.write(4.0, 4.0);
    }
}

/// A search came back. The seed also asks for the recent answers of the five best.
pub fn searched(arm: Arm, calls: f64, read_units: f64, bill: &mut Bill) {
    bill.read(calls, read_units);
    if arm.is_literal() {
        bill.read(5.0, 2.5);
    }
}

/// Messages that were sent come back, and are deleted, ten at a time.
fn come_back(messages: f64, bill: &mut Bill) {
    bill.sqs += 2.0 * OF_A_BATCH * messages;
}

/// Offers are made, by one write: one driver, or several at once.
pub fn offered(arm: Arm, drivers: f64, bill: &mut Bill) {
    bill.write(1.0, 2.0);
    // The timer's or, in the seed, the answer's message; and the push.
    bill.sqs += 1.0;
    bill.sns += 1.0;
    if !arm.is_literal() {
        come_back(1.0 + drivers, bill);
    }
}

/// The seed waits for the answer on the queue and looks at the dispatch before it goes on.
fn waited(after_ms: u64, bill: &mut Bill) {
    bill.sqs += after_ms.div_ceil(POLL_MS).max(1) as f64 + 1.0;
    bill.read(1.0, 1.0);
}

/// Both apps are told of an answer through the `responses` queue, by one batch each.
fn told(bill: &mut Bill) {
    bill.sqs += 1.0;
    bill.sns += 1.0;
    come_back(1.0 + 2.0, bill);
}

/// An offer ended without a ride, so long after it was made.
pub fn no_ride(arm: Arm, how: NoRide, after_ms: u64, bill: &mut Bill) {
    bill.write(1.0, 2.0);
    if arm.is_literal() {
        waited(after_ms, bill);
        return;
    }
    if how == NoRide::TimedOut {
        // An answer reaches the process that made the offer, a timer any.
        bill.read(1.0, 1.0);
    }
    told(bill);
}

/// A driver accepted, so long after the offer: the dispatch leaves `DISPATCH#REQUESTED`, the driver leaves `DRIVER#ACTIVE`, and the
/// driver's history gains an entry.
pub fn accepted(arm: Arm, after_ms: u64, bill: &mut Bill) {
    if arm.is_literal() {
        waited(after_ms, bill);
        bill.write(1.0, 3.0);
        bill.write(1.0, 2.0);
        bill.write(1.0, 0.0);
        bill.sns += 2.0;
    } else {
        // The driver is read, then one TransactWriteItems of three.
        bill.read(1.0, 1.0);
        bill.write(6.0, 5.0);
        told(bill);
    }
}

/// A request ended without a ride.
pub fn closed(arm: Arm, bill: &mut Bill) {
    if arm.is_literal() {
        bill.write(1.0, 3.0);
        bill.write(1.0, 2.0);
        bill.sns += 1.0;
    } else {
        bill.read(2.0, 2.0);
        bill.write(6.0, 5.0);
        bill.sns += 1.0;
        come_back(1.0, bill);
    }
}

/// The pings of a ride, one every four seconds, as the seed stores them: appended one by one to the dispatch's own `route`.
pub fn route_literally(pings: u32, bill: &mut Bill) {
    /// Bytes of a dispatch without its route, and of a point.
    const ITEM: u32 = 900;
    const POINT: u32 = 79;
    for ping in 1..=pings {
        let units = f64::from((ITEM + ping * POINT).div_ceil(1024));
        // GSI1 and GSI2 hold whole items.
        bill.write(units, 2.0 * units);
    }
}

/// The same as we store them: sixty to an item, and a simplified route with the end of the ride.
pub fn route_in_chunks(pings: u32, bill: &mut Bill) {
    /// Points and write units of a chunk, which is in no index.
    const CHUNK: u32 = 60;
    const CHUNK_UNITS: f64 = 5.0;
    for _ in 0..pings / CHUNK {
        bill.write(CHUNK_UNITS, 0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One offer, accepted after six seconds, with `pages` of candidates.
    fn first_offer_accepted(arm: Arm, pages: f64) -> Bill {
        let mut bill = Bill::default();
        request_stored(arm, &mut bill);
        searched(arm, pages, pages * 128.0, &mut bill);
        offered(arm, 1.0, &mut bill);
        accepted(arm, 6_000, &mut bill);
        bill
    }

    #[test]
    fn the_seed_takes_twenty_four_calls_where_ten_thousand_drivers_are_active() {
        let bill = first_offer_accepted(Arm::A, 5.0);
        assert_eq!([bill.reads, bill.writes, bill.sqs, bill.sns].map(|calls| calls.to_string()), ["12", "6", "3", "3"]);
    }

    #[test]
    fn ours_takes_eight_calls_and_what_messages_share() {
        let bill = first_offer_accepted(Arm::D, 0.0);
        // Five messages come back: a timer, an answer, three notifications.
        let shared = 5.0 * 2.0 * OF_A_BATCH;
        let shown = [bill.reads, bill.writes, bill.sqs - shared, bill.sns].map(|calls| calls.to_string());
        assert_eq!(shown, ["1", "3", "2", "2"]);
        assert!((bill.write_units - 11.0).abs() < 1e-9, "{bill:?}");
    }

    #[test]
    fn an_array_of_points_costs_with_the_square_of_its_length() {
        let (mut quarter, mut whole, mut chunks) = (Bill::default(), Bill::default(), Bill::default());
        route_literally(75, &mut quarter);
        route_literally(300, &mut whole);
        route_in_chunks(300, &mut chunks);
        assert!(whole.write_units > 10.0 * quarter.write_units);
        assert!(whole.write_units > 100.0 * chunks.write_units);
    }
}
