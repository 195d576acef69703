//! What is still in the queues when an object is deleted, and how long the workers get to bring it to its end.
//!
//! A queue without workers never drains, so this comes before they are stopped. New requests are taken no more meanwhile: the role that
//! takes them is stopped first.

use dispatch_api::dispatch_system::OutputsStatus;
use dispatch_api::validate::ValidatedSystem;
use jiff::SignedDuration;

use crate::cloud::ports::Ports;
use crate::engine::error::EngineError;
use crate::engine::observe;

/// The role that takes requests.
pub const INGRESS_ROLE: &str = "save-dispatch";
/// Longest time the queues get, from the deletion on. Timers of offers run for seconds; what is left after a minute is stuck.
pub const QUEUES_WITHIN: SignedDuration = SignedDuration::from_mins(1);

/// Queues that hold messages.
pub async fn non_empty(
    system: &ValidatedSystem,
    ports: &Ports,
    outputs: &OutputsStatus,
) -> Result<Vec<&'static str>, EngineError> {
    observe::guard_account(system, ports).await?;
    let mut non_empty = Vec::new();
    for (name, url) in [
        ("offers", &outputs.offers_queue_url),
        ("responses", &outputs.responses_queue_url),
        ("notifications", &outputs.notifications_queue_url),
    ] {
        if ports.queues.waiting(url).await?.is_some_and(|messages| messages > 0) {
            non_empty.push(name);
        }
    }
    Ok(non_empty)
}

/// What a deletion waits for before the workers are stopped, in words that stay the same while it waits; `None` when it waits no more.
pub fn waits_for(non_empty: &[&str], since_deletion: SignedDuration) -> Option<String> {
    let waits = !non_empty.is_empty() && since_deletion < QUEUES_WITHIN;
    waits.then(|| {
        let (queues, seconds) = (non_empty.join(", "), QUEUES_WITHIN.as_secs());
        format!(
            "the workers empty the queues first ({queues}), for at most {seconds} s; new requests are taken no more"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, system};

    #[test]
    fn workers_get_a_minute_to_empty_the_queues_and_no_more() {
        let words = waits_for(&["offers", "responses"], SignedDuration::from_secs(59)).expect("it waits");
        assert!(words.contains("offers, responses") && words.contains("at most 60 s"), "{words}");
        assert_eq!(waits_for(&["offers"], QUEUES_WITHIN), None);
        assert_eq!(waits_for(&[], SignedDuration::ZERO), None);
    }

    #[tokio::test]
    async fn queues_with_messages_are_named_and_only_in_the_right_account() {
        let (world, mut system) = (World::default(), system());
        let outputs = OutputsStatus {
            offers_queue_url: "https://sqs/Offers".to_owned(),
            responses_queue_url: "https://sqs/Responses".to_owned(),
            notifications_queue_url: "https://sqs/Notifications".to_owned(),
            ..OutputsStatus::default()
        };
        let ports = world.ports();
        assert_eq!(non_empty(&system, &ports, &outputs).await.expect("a look"), [""; 0]);
        world.put_messages(3);
        assert_eq!(non_empty(&system, &ports, &outputs).await.expect("a look"), ["offers"]);
        world.delete_queues();
        assert_eq!(non_empty(&system, &ports, &outputs).await.expect("a look"), [""; 0], "what is gone holds nothing");
        system.spec.aws.account_id = Some("999999999999".to_owned());
        world.take_calls();
        non_empty(&system, &ports, &outputs).await.expect_err("another account");
        assert_eq!(world.take_calls().0, ["account"]);
    }
}
