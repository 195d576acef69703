//! [`DispatchStore`] and [`ProfileStore`]: one contract suite for the table in memory and the table in DynamoDB.

mod contract;
pub mod dynamo_table;
pub mod dynamodb;
mod lost_answers;
pub mod table;

use dispatch_core::ids::UserId;
use dispatch_core::time::EpochMs;
use dispatch_runtime::ports::{NewDispatch, UserProfile};
use table::Table;

/// A user profile.
pub fn a_user() -> UserProfile {
    table::user_profile()
}

/// A request of a user.
pub fn a_request(user: &UserId, now: EpochMs) -> NewDispatch {
    table::new_dispatch("dispatch#1", user, now)
}

/// Runs every scenario in memory, each as a separate test, and all of them on one DynamoDB, each on its own table.
macro_rules! contract {
    ($($scenario:ident),* $(,)?) => {
        mod memory {
            $(
                #[tokio::test]
                async fn $scenario() {
                    super::contract::$scenario(&super::Table::memory()).await;
                }
            )*
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn dynamodb_keeps_the_whole_contract() {
            let aws = dynamodb::Aws::start().await;
            $(
                eprintln!("scenario: {}", stringify!($scenario));
                contract::$scenario(&aws.table(1).await).await;
            )*
        }
    };
}

contract!(
    a_request_is_stored_as_specified_and_occupies_its_user,
    a_repeated_request_meets_the_dispatch_it_made_before,
    a_busy_or_unknown_user_gets_no_second_dispatch,
    fifty_equal_accepts_store_one,
    of_many_steps_on_one_version_the_first_wins,
    two_dispatches_cannot_have_one_driver,
    a_changed_dispatch_refuses_a_step_before_its_companions_do,
    an_unchanged_step_writes_nothing,
    a_completed_ride_writes_the_specified_items_and_frees_both,
    completed_rides_keep_the_last_twenty,
    a_cancelled_dispatch_frees_its_driver_and_user,
    a_user_who_is_elsewhere_does_not_keep_a_dispatch_open,
    lists_are_paged_newest_first,
    a_made_up_page_token_is_refused,
    the_sweeper_sees_old_open_dispatches_only,
    availability_follows_the_driver_but_not_on_a_dispatch,
    profiles_keep_their_status_and_devices,
    active_drivers_of_the_district_come_first,
    route_chunks_are_read_in_order_and_written_twice_without_harm,
    an_answer_is_kept_for_a_day_and_its_holder_for_half_a_minute,
);
