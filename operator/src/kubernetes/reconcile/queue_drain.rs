//! Drains the queues when an object is deleted, for a limited time.
//!
//! Queues drain only while workers run, so this comes before the workers are stopped. The role that accepts requests is
//! stopped first, so no new requests arrive meanwhile.

use dispatch_api::dispatch_system::OutputsStatus;
use dispatch_api::validate::ValidatedSystem;
use jiff::SignedDuration;

use crate::cloud::ports::Ports;
use crate::engine::error::EngineError;
use crate::engine::observe;

/// The role that accepts requests.
pub const INGRESS_ROLE: &str = "save-dispatch";
/// Time limit for draining, from the deletion on. Offer timers run for seconds; a message that is left after a minute
/// is stuck.
pub const QUEUES_WITHIN: SignedDuration = SignedDuration::from_mins(1);

/// Names of the queues that hold messages.
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

/// Message while a deletion waits for the queues; `None` when it no longer waits. The text does not change while it
/// waits, so that the status is written once.
pub fn waits_for(non_empty: &[&str], since_deletion: SignedDuration) -> Option<String> {
    let waits = !non_empty.is_empty() && since_deletion < QUEUES_WITHIN;
    waits.then(|| {
        let (queues, seconds) = (non_empty.join(", "), QUEUES_WITHIN.as_secs());
        format!(
            "draining the queues ({queues}) for at most {seconds} s before the workers stop; no new requests are accepted"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{QUEUE, World, system};

    #[test]
    fn draining_the_queues_takes_at_most_a_minute() {
        let words = waits_for(&["offers", "responses"], SignedDuration::from_secs(59)).expect("it waits");
        assert!(words.contains("offers, responses") && words.contains("at most 60 s"), "{words}");
        assert_eq!(waits_for(&["offers"], QUEUES_WITHIN), None);
        assert_eq!(waits_for(&[], SignedDuration::ZERO), None);
    }

    #[tokio::test]
    async fn only_queues_with_messages_in_the_right_account_are_named() {
        let (world, mut system) = (World::default(), system());
        let outputs = OutputsStatus {
            offers_queue_url: "https://sqs/Offers".to_owned(),
            responses_queue_url: "https://sqs/Responses".to_owned(),
            notifications_queue_url: "https://sqs/Notifications".to_owned(),
            ..OutputsStatus::default()
        };
        let ports = world.ports();
        assert_eq!(non_empty(&system, &ports, &outputs).await.expect("queue attributes"), [""; 0]);
        world.put_messages(3);
        assert_eq!(non_empty(&system, &ports, &outputs).await.expect("queue attributes"), ["offers"]);
        for queue in ["Offers", "Responses", "Notifications"] {
            world.delete(QUEUE, queue);
        }
        assert_eq!(
            non_empty(&system, &ports, &outputs).await.expect("queue attributes"),
            [""; 0],
            "a deleted queue holds no messages"
        );
        system.spec.aws.account_id = Some("999999999999".to_owned());
        world.take_calls();
        non_empty(&system, &ports, &outputs).await.expect_err("another account");
        assert_eq!(world.take_calls().0, ["account"]);
    }
}
