//! Every key of the table. No other module defines one.
//!
//! The formats are those of spec §6 (entities and "GSI 설계") with two additions. Times in sort keys have milliseconds
//! ([`City::sort_time`](crate::city::City::sort_time)), because two events of a driver can fall into one second. With
//! more than one shard, GSI1 partition keys have a suffix, because a whole status under one key is a hot partition
//! (AWS: 1,000 write units a second per partition key).

use std::num::NonZeroU16;

use dispatch_core::ids::{DispatchId, DriverId, UserId};

use dispatch_core::dispatch::DispatchStatus;
use dispatch_core::person::PersonStatus;

use crate::ports::Person;

/// Sort key of a driver's or user's profile (specification: `SK "PROFILE"`).
pub const PROFILE_SK: &str = "PROFILE";

/// Sort key of a dispatch (specification: `SK "METADATA"`).
pub const DISPATCH_SK: &str = "METADATA";

/// Sort key of the entry of a dispatch in the list of reviews (addition).
pub const REVIEW_SK: &str = "REVIEW";

/// GSI1 partition key of the open reviews (addition). Reviews are rare, so they are not sharded.
pub const GSI1_OPEN_REVIEWS: &str = "REVIEW#OPEN";

/// Prefix of the sort keys of a dispatch's route chunks (addition).
pub const ROUTE_PREFIX: &str = "ROUTE#";

/// Prefix of the GSI1 sort keys of drivers and users (specification: `"REGION#강남구#driver#00001"`).
pub const GSI1_REGION_PREFIX: &str = "REGION#";

/// Prefix of the GSI2 sort keys of dispatches (specification: `"DISPATCH#2025-05-25T14:30:00"`).
pub const GSI2_DISPATCH_PREFIX: &str = "DISPATCH#";

/// Partition key of the answer to a request with an Idempotency-Key: `ANSWER#<digest>` (addition).
pub fn answer_pk(digest: &str) -> String {
    format!("ANSWER#{digest}")
}

/// Partition key of a revision of the workers: `WORKER#<digest>` (addition).
pub fn revision_pk(digest: &str) -> String {
    format!("WORKER#{digest}")
}

/// Sort key of a revision (addition).
pub const REVISION_SK: &str = "REVISION";

/// Partition key of the records of a person's erasures: `ERASURE#user#00001` (addition).
pub fn erasure_pk(person: &Person) -> String {
    format!("ERASURE#{}", person.as_str())
}

/// Sort key of such an answer (addition).
pub const ANSWER_SK: &str = "ANSWER";

/// Sort key of a driver's status history: `DISPATCHED#2025-05-25T14:30:00.000` (specification:
/// `DriverStatusHistoryItem`).
pub fn driver_history_sk(status: PersonStatus, sort_time: &str) -> String {
    format!("{}#{sort_time}", status.as_str())
}

/// Sort key of a user's history: `DISPATCH#2025-05-25T14:30:00.000#dispatch#00001` (specification:
/// `UserDispatchHistoryItem`).
pub fn user_history_sk(sort_time: &str, dispatch: &DispatchId) -> String {
    format!("DISPATCH#{sort_time}#{dispatch}")
}

/// Sort key of a completed ride: `COMPLETED#2025-05-25T14:30:00.000#dispatch#00001` (specification:
/// `DriverCompletedRideItem`).
pub fn completed_ride_sk(sort_time: &str, dispatch: &DispatchId) -> String {
    format!("COMPLETED#{sort_time}#{dispatch}")
}

/// Sort key of a route chunk: `ROUTE#000001`, numbered from 1 (addition). Six digits sort by number.
pub fn route_chunk_sk(number: u32) -> String {
    format!("{ROUTE_PREFIX}{number:06}")
}

/// GSI1 partition key of a dispatch: `DISPATCH#REQUESTED`, for every status (specification: `"DISPATCH#REQUESTED" 등`),
/// sharded `DISPATCH#REQUESTED#3`.
pub fn gsi1_dispatch_pk(status: DispatchStatus, id: &DispatchId, shards: Shards) -> String {
    shards.key_for(&gsi1_dispatch_status(status), id.as_str())
}

/// The unsharded GSI1 partition key of a dispatch status: `DISPATCH#REQUESTED`.
pub fn gsi1_dispatch_status(status: DispatchStatus) -> String {
    format!("DISPATCH#{}", status.as_str())
}

/// GSI1 sort key of a dispatch: `2025-05-25T14:30:00.000#dispatch#00001`, the time of the request (specification:
/// GSI1SK).
pub fn gsi1_dispatch_sk(created: &str, id: &DispatchId) -> String {
    format!("{created}#{id}")
}

/// GSI1 partition key of a driver: `DRIVER#ACTIVE` (specification), sharded `DRIVER#ACTIVE#3`.
pub fn gsi1_driver_pk(status: PersonStatus, id: &DriverId, shards: Shards) -> String {
    shards.key_for(&gsi1_driver_status(status), id.as_str())
}

/// The unsharded GSI1 partition key of a driver status: `DRIVER#ACTIVE`.
pub fn gsi1_driver_status(status: PersonStatus) -> String {
    format!("DRIVER#{}", status.as_str())
}

/// GSI1 partition key of a user: `USER#ACTIVE` (specification), sharded `USER#ACTIVE#3`.
pub fn gsi1_user_pk(status: PersonStatus, id: &UserId, shards: Shards) -> String {
    shards.key_for(&format!("USER#{}", status.as_str()), id.as_str())
}

/// GSI1 sort key of a driver or user: `REGION#강남구#driver#00001` (specification: GSI1SK).
pub fn gsi1_person_sk(region: &str, person: &str) -> String {
    format!("{}{person}", gsi1_region_prefix(region))
}

/// Prefix of the GSI1 sort keys of a district: `REGION#강남구#`.
pub fn gsi1_region_prefix(region: &str) -> String {
    format!("{GSI1_REGION_PREFIX}{region}#")
}

/// GSI2 partition key of a user's dispatches: `USER#user#00001` (specification: GSI2PK).
pub fn gsi2_user_pk(user: &UserId) -> String {
    format!("USER#{user}")
}

/// GSI2 partition key of a driver's rides and status history: `DRIVER#driver#00001` (specification: GSI2PK).
pub fn gsi2_driver_pk(driver: &DriverId) -> String {
    format!("DRIVER#{driver}")
}

/// GSI2 sort key of a dispatch or a completed ride: `DISPATCH#2025-05-25T14:30:00.000` (specification: GSI2SK).
pub fn gsi2_dispatch_sk(sort_time: &str) -> String {
    format!("{GSI2_DISPATCH_PREFIX}{sort_time}")
}

/// GSI2 sort key of a driver's status history: `STATUS#2025-05-25T14:30:00.000`. An addition: the specification has
/// none, and without a separate prefix status changes would mix with rides.
pub fn gsi2_status_sk(sort_time: &str) -> String {
    format!("STATUS#{sort_time}")
}

/// Number of partition keys per status in GSI1; 1 gives the keys of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shards(NonZeroU16);

impl Shards {
    /// 0 counts as 1.
    pub fn new(count: u16) -> Self {
        Self(NonZeroU16::new(count).unwrap_or(NonZeroU16::MIN))
    }

    /// The partition key for an item with this id.
    fn key_for(self, key: &str, id: &str) -> String {
        if self.0 == NonZeroU16::MIN {
            return key.to_owned();
        }
        let shard = fnv1a(id.as_bytes()) % u64::from(self.0.get());
        format!("{key}#{shard}")
    }

    /// Every partition key under which readers of `key` must look. The unsharded key is always one of them: it holds
    /// items from before a change of the setting and those of other services that follow the specification.
    pub fn all(self, key: &str) -> Vec<String> {
        let mut keys = vec![key.to_owned()];
        if self.0 > NonZeroU16::MIN {
            keys.extend((0..self.0.get()).map(|shard| format!("{key}#{shard}")));
        }
        keys
    }
}

/// FNV-1a, 64 bit. The standard library's hash may change with the compiler; a stored key must not.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_shard_uses_the_specified_keys() {
        let driver = DriverId::parse("driver#00001").unwrap();
        let dispatch = DispatchId::parse("dispatch#00001").unwrap();
        let one = Shards::new(1);
        assert_eq!(gsi1_driver_pk(PersonStatus::Active, &driver, one), "DRIVER#ACTIVE");
        assert_eq!(gsi1_dispatch_pk(DispatchStatus::Requested, &dispatch, one), "DISPATCH#REQUESTED");
        assert_eq!(gsi1_person_sk("강남구", driver.as_str()), "REGION#강남구#driver#00001");
        assert_eq!(gsi1_dispatch_sk("2025-05-25T14:30:00.000", &dispatch), "2025-05-25T14:30:00.000#dispatch#00001");
        assert_eq!(gsi2_driver_pk(&driver), "DRIVER#driver#00001");
        assert_eq!(gsi2_dispatch_sk("2025-05-25T14:30:00.000"), "DISPATCH#2025-05-25T14:30:00.000");
        assert_eq!(route_chunk_sk(1), "ROUTE#000001");
        assert_eq!(one.all("DRIVER#ACTIVE"), ["DRIVER#ACTIVE"]);
        assert_eq!(Shards::new(0), one);
    }

    #[test]
    fn an_id_stays_in_its_shard_and_readers_look_at_all_of_them() {
        let four = Shards::new(4);
        // Stored keys depend on this value: it must be the same in every release.
        let dispatch = DispatchId::parse("dispatch#00001").unwrap();
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        for n in 0..200 {
            let id = DispatchId::parse(format!("dispatch#{n:05}")).unwrap();
            let key = gsi1_dispatch_pk(DispatchStatus::Requested, &id, four);
            assert!(four.all("DISPATCH#REQUESTED").contains(&key), "{key}");
        }
        let again = gsi1_dispatch_pk(DispatchStatus::Requested, &dispatch, four);
        assert_eq!(again, gsi1_dispatch_pk(DispatchStatus::Requested, &dispatch, four));
        assert_eq!(four.all("DRIVER#ACTIVE").len(), 5);
    }

    #[test]
    fn every_key_has_its_format() {
        let (user, driver) = (UserId::parse("user#00001").unwrap(), DriverId::parse("driver#00001").unwrap());
        let dispatch = DispatchId::parse("dispatch#00001").unwrap();
        let (one, at) = (Shards::new(1), "2025-05-25T14:30:00.000");
        assert_eq!(answer_pk("0a1b"), "ANSWER#0a1b");
        assert_eq!(driver_history_sk(PersonStatus::Dispatched, at), "DISPATCHED#2025-05-25T14:30:00.000");
        assert_eq!(user_history_sk(at, &dispatch), "DISPATCH#2025-05-25T14:30:00.000#dispatch#00001");
        assert_eq!(completed_ride_sk(at, &dispatch), "COMPLETED#2025-05-25T14:30:00.000#dispatch#00001");
        assert_eq!(route_chunk_sk(123_456), "ROUTE#123456");
        assert_eq!(gsi1_dispatch_status(DispatchStatus::InProgress), "DISPATCH#IN_PROGRESS");
        assert_eq!(gsi1_driver_status(PersonStatus::Inactive), "DRIVER#INACTIVE");
        assert_eq!(gsi1_user_pk(PersonStatus::Active, &user, one), "USER#ACTIVE");
        assert_eq!(gsi1_driver_pk(PersonStatus::Dispatched, &driver, one), "DRIVER#DISPATCHED");
        assert_eq!(gsi1_region_prefix("강남구"), "REGION#강남구#");
        assert_eq!(gsi2_user_pk(&user), "USER#user#00001");
        assert_eq!(gsi2_status_sk(at), "STATUS#2025-05-25T14:30:00.000");
    }

    #[test]
    fn a_shard_is_the_remainder_of_the_published_hash() {
        // Computed by another implementation of FNV-1a.
        const USER_HASH: u64 = 0xf38e_261b_dc80_c846;
        const DRIVER_HASH: u64 = 0xba92_ee9d_fc41_9f1f;
        let (user, driver) = (UserId::parse("user#00001").unwrap(), DriverId::parse("driver#00001").unwrap());
        assert_eq!((fnv1a(b"user#00001"), fnv1a(b"driver#00001")), (USER_HASH, DRIVER_HASH));
        assert_eq!(gsi1_user_pk(PersonStatus::Active, &user, Shards::new(7)), "USER#ACTIVE#5");
        assert_eq!(gsi1_driver_pk(PersonStatus::Active, &driver, Shards::new(7)), "DRIVER#ACTIVE#5");
        assert_eq!(Shards::new(2).all("USER#ACTIVE"), ["USER#ACTIVE", "USER#ACTIVE#0", "USER#ACTIVE#1"]);
    }
}
