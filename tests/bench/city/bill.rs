//! The AWS calls of a dispatch, counted call by call in the model.
//!
//! A write of an item of up to 1 KB costs one write unit, two in a transaction, and one more for each index that
//! contains the item, two if the index key changes. The calls of our arms are those that a test counts at the endpoint
//! of a real worker: eight for a first offer that is accepted, and a share of the calls that receive or delete ten
//! messages. Stream reads are not counted, because they depend on shards and time, not on dispatches.

use std::ops::AddAssign;

use super::arm::Arm;

/// Share of a call that receives or deletes ten messages.
const OF_A_BATCH: f64 = 0.1;
/// Duration of a long poll of a queue, ms.
const POLL_MS: u64 = 20_000;

/// Calls and capacity units.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Bill {
    /// DynamoDB calls that read.
    pub reads: f64,
    /// DynamoDB calls that write.
    pub writes: f64,
    pub sqs: f64,
    pub sns: f64,
    pub read_units: f64,
    /// Write units of the table, without its indexes.
    pub write_units: f64,
    /// Write units of the indexes.
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

/// The end of an offer without a ride.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoRide {
    Rejected,
    TimedOut,
}

/// Stores a request: the dispatch with its two indexes, and the user, whose partition in GSI1 changes.
pub(super) fn request_stored(arm: Arm, bill: &mut Bill) {
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

/// Finishes a search. The specification also reads the recent answers of the five best.
pub(super) fn searched(arm: Arm, calls: f64, read_units: f64, bill: &mut Bill) {
    bill.read(calls, read_units);
    if arm.is_literal() {
        bill.read(5.0, 2.5);
    }
}

/// Receives and deletes messages, ten at a time.
fn receive_and_delete(messages: f64, bill: &mut Bill) {
    bill.sqs += 2.0 * OF_A_BATCH * messages;
}

/// Makes offers with one write, to one driver or several.
pub(super) fn offered(arm: Arm, drivers: f64, bill: &mut Bill) {
    bill.write(1.0, 2.0);
    // The message of the timer or, in the specification, of the answer; and the push.
    bill.sqs += 1.0;
    bill.sns += 1.0;
    if !arm.is_literal() {
        receive_and_delete(1.0 + drivers, bill);
    }
}

/// Waits for an answer as the specification does: polls the queue, then reads the dispatch.
fn wait_for_answer(after_ms: u64, bill: &mut Bill) {
    bill.sqs += after_ms.div_ceil(POLL_MS).max(1) as f64 + 1.0;
    bill.read(1.0, 1.0);
}

/// Notifies both apps of an answer through the `responses` queue, with one batch each.
fn notify_both(bill: &mut Bill) {
    bill.sqs += 1.0;
    bill.sns += 1.0;
    receive_and_delete(1.0 + 2.0, bill);
}

/// Ends an offer without a ride, `after_ms` after it was made.
pub(super) fn no_ride(arm: Arm, how: NoRide, after_ms: u64, bill: &mut Bill) {
    bill.write(1.0, 2.0);
    if arm.is_literal() {
        wait_for_answer(after_ms, bill);
        return;
    }
    if how == NoRide::TimedOut {
        // An answer reaches the process that made the offer; a timer may reach another one, which reads the dispatch.
        bill.read(1.0, 1.0);
    }
    notify_both(bill);
}

/// Accepts an offer, `after_ms` after it was made: the dispatch leaves `DISPATCH#REQUESTED`, the driver leaves
/// `DRIVER#ACTIVE`, and the driver's history gets an entry.
pub(super) fn accepted(arm: Arm, after_ms: u64, bill: &mut Bill) {
    if arm.is_literal() {
        wait_for_answer(after_ms, bill);
        bill.write(1.0, 3.0);
        bill.write(1.0, 2.0);
        bill.write(1.0, 0.0);
        bill.sns += 2.0;
    } else {
        // The driver is read, then one TransactWriteItems of three.
        bill.read(1.0, 1.0);
        bill.write(6.0, 5.0);
        notify_both(bill);
    }
}

/// Ends a request without a ride.
pub(super) fn closed(arm: Arm, bill: &mut Bill) {
    if arm.is_literal() {
        bill.write(1.0, 3.0);
        bill.write(1.0, 2.0);
        bill.sns += 1.0;
    } else {
        bill.read(2.0, 2.0);
        bill.write(6.0, 5.0);
        bill.sns += 1.0;
        receive_and_delete(1.0, bill);
    }
}

/// Stores the pings of a ride, one every four seconds, as in the specification: each is appended to `route` of the
/// dispatch.
pub(super) fn route_literally(pings: u32, bill: &mut Bill) {
    /// Size of a dispatch without its route, bytes.
    const ITEM: u32 = 900;
    /// Size of a route point, bytes.
    const POINT: u32 = 79;
    for ping in 1..=pings {
        let units = f64::from((ITEM + ping * POINT).div_ceil(1024));
        // GSI1 and GSI2 contain whole items.
        bill.write(units, 2.0 * units);
    }
}

/// Stores the pings of a ride in chunks of sixty. The simplified route is part of the write that ends the ride.
pub(super) fn route_in_chunks(pings: u32, bill: &mut Bill) {
    /// Points of a chunk.
    const CHUNK: u32 = 60;
    /// Write units of a chunk, which is in no index.
    const CHUNK_UNITS: f64 = 5.0;
    for _ in 0..pings / CHUNK {
        bill.write(CHUNK_UNITS, 0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One offer, accepted after six seconds, and a search of `pages` pages.
    fn first_offer_accepted(arm: Arm, pages: f64) -> Bill {
        let mut bill = Bill::default();
        request_stored(arm, &mut bill);
        searched(arm, pages, pages * 128.0, &mut bill);
        offered(arm, 1.0, &mut bill);
        accepted(arm, 6_000, &mut bill);
        bill
    }

    #[test]
    fn the_specification_makes_twenty_four_calls_with_ten_thousand_active_drivers() {
        let bill = first_offer_accepted(Arm::A, 5.0);
        assert_eq!([bill.reads, bill.writes, bill.sqs, bill.sns].map(|calls| calls.to_string()), ["12", "6", "3", "3"]);
    }

    #[test]
    fn ours_makes_eight_calls_and_shares_those_of_messages() {
        let bill = first_offer_accepted(Arm::D, 0.0);
        // Five messages are received and deleted: a timer, an answer and three notifications.
        let shared = 5.0 * 2.0 * OF_A_BATCH;
        let shown = [bill.reads, bill.writes, bill.sqs - shared, bill.sns].map(|calls| calls.to_string());
        assert_eq!(shown, ["1", "3", "2", "2"]);
        assert!((bill.write_units - 11.0).abs() < 1e-9, "{bill:?}");
    }

    #[test]
    fn the_cost_of_appending_points_grows_with_the_square_of_their_number() {
        let (mut quarter, mut whole, mut chunks) = (Bill::default(), Bill::default(), Bill::default());
        route_literally(75, &mut quarter);
        route_literally(300, &mut whole);
        route_in_chunks(300, &mut chunks);
        assert!(whole.write_units > 10.0 * quarter.write_units);
        assert!(whole.write_units > 100.0 * chunks.write_units);
    }
}
