//! [`DispatchStore`] and [`ProfileStore`]: one contract suite for the table in memory and the table in DynamoDB.

mod cancellations;
mod contract;
pub(crate) mod dynamo_table;
pub(crate) mod dynamodb;
mod lost_answers;
mod persons;
mod profiles;
pub(crate) mod table;
mod unreadable;

use dispatch_core::ids::UserId;
use dispatch_core::time::EpochMs;
use dispatch_runtime::ports::{NewDispatch, UserProfile};
use table::Table;

/// A user profile.
pub(crate) fn a_user() -> UserProfile {
    table::user_profile()
}

/// A request of a user.
pub(crate) fn a_request(user: &UserId, now: EpochMs) -> NewDispatch {
    table::new_dispatch("dispatch#1", user, now)
}

/// Runs every scenario in memory, each as a separate test, and all of them on one DynamoDB, each on its own table.
macro_rules! contract {
    ($($suite:ident: $scenario:ident),* $(,)?) => {
        mod memory {
            $(
                #[tokio::test]
                async fn $scenario() {
                    super::$suite::$scenario(&super::Table::memory()).await;
                }
            )*
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn dynamodb_keeps_the_whole_contract() {
            let aws = dynamodb::Aws::start().await;
            $(
                eprintln!("scenario: {}", stringify!($scenario));
                $suite::$scenario(&aws.table(1).await).await;
            )*
        }
    };
}

contract!(
    contract: a_request_is_stored_as_specified_and_occupies_its_user,
    contract: a_repeated_request_meets_the_dispatch_it_made_before,
    contract: a_busy_or_unknown_user_gets_no_second_dispatch,
    contract: fifty_equal_accepts_store_one,
    contract: of_many_steps_on_one_version_the_first_wins,
    contract: two_dispatches_cannot_have_one_driver,
    contract: a_changed_dispatch_refuses_a_step_before_its_companions_do,
    contract: an_unchanged_step_writes_nothing,
    contract: a_completed_ride_writes_the_specified_items_and_frees_both,
    contract: completed_rides_keep_the_last_twenty,
    contract: a_cancelled_dispatch_frees_its_driver_and_user,
    contract: a_user_who_is_elsewhere_does_not_keep_a_dispatch_open,
    contract: lists_are_paged_newest_first,
    contract: a_made_up_page_token_is_refused,
    contract: the_sweeper_sees_old_open_dispatches_only,
    contract: the_sweeper_sees_what_a_wrong_clock_has_dated,
    contract: rides_under_review_are_listed_oldest_first_until_they_are_reviewed,
    contract: rides_without_a_change_are_found_and_others_are_not,
    profiles: availability_follows_the_driver_but_not_on_a_dispatch,
    profiles: profiles_keep_their_status_and_devices,
    profiles: active_drivers_are_listed_page_by_page,
    profiles: a_driver_who_is_gone_becomes_inactive_unless_it_has_reported,
    contract: route_chunks_are_read_in_order_and_written_twice_without_harm,
    contract: an_answer_is_kept_for_a_day_and_its_holder_for_half_a_minute,
    cancellations: a_user_who_cancels_often_has_to_wait,
    cancellations: cancellations_of_others_do_not_count,
    cancellations: an_unreadable_count_of_cancellations_stops_no_request,
    unreadable: an_unreadable_profile_costs_its_driver_alone,
    unreadable: a_profile_is_repaired_by_its_person,
    unreadable: an_unreadable_dispatch_is_left_out_of_lists,
    unreadable: a_dispatch_ends_without_a_profile_that_cannot_be_read,
    unreadable: a_person_is_freed_from_the_dispatch_it_is_on,
    persons: only_what_has_ended_expires,
    persons: a_person_is_erased_page_by_page_and_fares_and_times_stay,
    persons: an_erased_profile_counts_as_missing_until_the_person_comes_back,
    persons: a_person_on_an_open_dispatch_is_not_erased,
    persons: the_record_of_an_erasure_is_kept,
    persons: an_export_has_everything_of_a_person_page_by_page,
);
