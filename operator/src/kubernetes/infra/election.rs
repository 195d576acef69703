//! Leader election with a `Lease`, so that only one of several replicas writes. [`decide`] makes the decision; the rest
//! carries it out.
//!
//! The protocol is that of the Kubernetes components: a lease is stale if the observer, by its own monotonic clock, has
//! seen no renewal for the lease duration, so the clocks of two replicas need not agree. Every write carries the
//! resource version it was decided on, so of two replicas that decide at the same time one is rejected.
//!
//! Unlike kubert or client-go, the leader also closes a [`Fence`] well before its lease can be taken over, so that a
//! slow replica never writes at the same time as the next leader.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use rand::RngExt as _;
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::kubernetes::infra::fence::Fence;

/// Lease duration, s: the longest time without a leader after the leader dies.
const LEASE_S: i32 = 15;
/// A leader that has not renewed for this long stops writing, well before another replica may take over.
const WRITE_WITHIN: Duration = Duration::from_secs(10);
/// Time between two renewals.
const RENEW_EVERY: Duration = Duration::from_secs(4);
/// Polling interval of waiting replicas, plus up to 50 % jitter.
const LOOK_EVERY: Duration = Duration::from_millis(1500);
/// Timeout of one call.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);

/// The fields of a lease that the election uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Identity of the holder.
    pub holder: Option<String>,
    /// Time of the last renewal by the holder's clock. Only its changes are used, never its value.
    pub renewed: Option<Timestamp>,
    /// Lease duration, s.
    pub duration_s: i32,
    /// How often the holder changed.
    pub transitions: i32,
}

/// What to do about the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The lease does not exist.
    Create,
    /// The lease is free or stale.
    Take,
    /// This replica holds the lease.
    Renew,
    /// Another replica holds the lease.
    Wait,
}

/// Decides what to do. `unchanged_for` is how long this replica has observed the lease without a change.
pub fn decide(lease: Option<&Record>, me: &str, unchanged_for: Duration) -> Decision {
    let Some(lease) = lease else { return Decision::Create };
    let life = Duration::from_secs(u64::try_from(lease.duration_s).unwrap_or(0));
    match lease.holder.as_deref() {
        None | Some("") => Decision::Take,
        Some(holder) if holder == me => Decision::Renew,
        Some(_) if unchanged_for >= life => Decision::Take,
        Some(_) => Decision::Wait,
    }
}

/// Why this replica lost the leadership.
#[derive(Debug, Error)]
pub enum ElectionError {
    /// Another replica holds the lease.
    #[error("another replica has taken over the lease")]
    TakenOver,
    /// The lease was not renewed in time.
    #[error("cannot renew the lease within {} s", WRITE_WITHIN.as_secs())]
    NotRenewed(#[source] Option<Box<kube::Error>>),
}

/// The election from the point of view of one replica.
pub struct Election {
    leases: Api<Lease>,
    name: String,
    me: String,
    fence: Fence,
    seen: Option<(Record, Instant)>,
}

impl Election {
    /// Takes part in the election of the lease `name` in `namespace`. `me` must be unique to this process.
    pub fn new(client: Client, namespace: &str, name: String, me: String, fence: Fence) -> Self {
        Self { leases: Api::namespaced(client, namespace), name, me, fence, seen: None }
    }

    /// Waits until this replica is the leader; `false` if `stop` came first.
    pub async fn win(&mut self, stop: &CancellationToken) -> bool {
        loop {
            match self.turn().await {
                Ok(true) => return true,
                Ok(false) => {}
                // Another replica was faster.
                Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {}
                Err(error) => tracing::warn!(error = %error, lease = %self.name, "cannot read or write the lease"),
            }
            let jitter = rand::rng().random_range(1.0..1.5);
            tokio::select! {
                () = stop.cancelled() => return false,
                () = sleep(LOOK_EVERY.mul_f64(jitter)) => {}
            }
        }
    }

    /// Renews the lease until `stop`. Fails when the leadership is lost; the fence is then closed.
    pub async fn hold(&mut self, stop: &CancellationToken) -> Result<(), ElectionError> {
        let mut renewed = Instant::now();
        let mut trouble = None;
        loop {
            let pause = if trouble.is_none() { RENEW_EVERY } else { LOOK_EVERY };
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = sleep(pause) => {}
            }
            let begun = Instant::now();
            match self.turn().await {
                Ok(true) => (renewed, trouble) = (begun, None),
                Ok(false) => {
                    self.fence.close();
                    return Err(ElectionError::TakenOver);
                }
                Err(error) => {
                    tracing::warn!(error = %error, lease = %self.name, "the lease was not renewed");
                    trouble = Some(error);
                }
            }
            if renewed.elapsed() >= WRITE_WITHIN {
                self.fence.close();
                return Err(ElectionError::NotRenewed(trouble.map(Box::new)));
            }
        }
    }

    /// Releases the lease, so that the next replica need not wait for it to expire. Nothing can be written after this.
    pub async fn release(&mut self) {
        self.fence.close();
        let given = timeout(CALL_TIMEOUT, async {
            let Some(mut lease) = self.leases.get_opt(&self.name).await? else { return Ok(()) };
            if record(&lease).holder.as_deref() == Some(self.me.as_str()) {
                if let Some(spec) = &mut lease.spec {
                    spec.holder_identity = None;
                    spec.renew_time = None;
                }
                self.leases.replace(&self.name, &PostParams::default(), &lease).await?;
            }
            Ok::<(), kube::Error>(())
        });
        match given.await {
            Ok(Ok(())) => tracing::info!(lease = %self.name, "released the lease"),
            Ok(Err(error)) => {
                tracing::warn!(%error, lease = %self.name, "could not release the lease; it will expire");
            }
            Err(_) => tracing::warn!(lease = %self.name, "could not release the lease in time; it will expire"),
        }
    }

    /// Reads the lease, and writes it if it is to be taken or renewed. Returns whether this replica is the leader.
    async fn turn(&mut self) -> Result<bool, kube::Error> {
        let begun = Instant::now();
        let attempt = timeout(CALL_TIMEOUT, async {
            let lease = self.leases.get_opt(&self.name).await?;
            let found = lease.as_ref().map(record);
            let unchanged_for = self.unchanged_for(found.as_ref());
            let decision = decide(found.as_ref(), &self.me, unchanged_for);
            let next = self.written(lease, decision);
            match decision {
                Decision::Wait => return Ok(false),
                Decision::Create => self.leases.create(&PostParams::default(), &next).await.map(drop),
                Decision::Take | Decision::Renew => {
                    self.leases.replace(&self.name, &PostParams::default(), &next).await.map(drop)
                }
            }?;
            Ok(true)
        });
        match attempt.await {
            Ok(Ok(leads)) => {
                if leads {
                    // Measured from before the write: the lease duration starts no earlier than that.
                    self.fence.open_until(begun + WRITE_WITHIN);
                }
                Ok(leads)
            }
            Ok(Err(error)) => Err(error),
            Err(elapsed) => Err(kube::Error::Service(elapsed.into())),
        }
    }

    fn unchanged_for(&mut self, found: Option<&Record>) -> Duration {
        let now = Instant::now();
        match (&self.seen, found) {
            (Some((seen, since)), Some(found)) if seen == found => now.duration_since(*since),
            (_, found) => {
                self.seen = found.map(|found| (found.clone(), now));
                Duration::ZERO
            }
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a lease records the holder's clock; no decision uses it")]
    fn written(&self, lease: Option<Lease>, decision: Decision) -> Lease {
        let now = MicroTime(Timestamp::now());
        let mut lease = lease.unwrap_or_else(|| Lease {
            metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
            spec: None,
        });
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        if decision != Decision::Renew {
            spec.holder_identity = Some(self.me.clone());
            spec.acquire_time = Some(now.clone());
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0) + 1);
        }
        spec.lease_duration_seconds = Some(LEASE_S);
        spec.renew_time = Some(now);
        lease
    }
}

fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    Record {
        holder: spec.holder_identity,
        renewed: spec.renew_time.map(|time| time.0),
        duration_s: spec.lease_duration_seconds.unwrap_or(LEASE_S),
        transitions: spec.lease_transitions.unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: &str) -> Record {
        Record { holder: Some(holder.to_owned()), duration_s: 15, ..Record::default() }
    }

    #[test]
    fn a_lease_is_created_taken_renewed_or_waited_for() {
        let fresh = Duration::from_secs(14);
        let stale = Duration::from_secs(15);
        assert_eq!(decide(None, "a", fresh), Decision::Create);
        assert_eq!(decide(Some(&Record::default()), "a", fresh), Decision::Take);
        assert_eq!(decide(Some(&held_by("a")), "a", stale), Decision::Renew);
        assert_eq!(decide(Some(&held_by("b")), "a", fresh), Decision::Wait);
        assert_eq!(decide(Some(&held_by("b")), "a", stale), Decision::Take);
    }

    #[test]
    fn a_leader_stops_writing_before_another_replica_can_take_over() {
        let lease = Duration::from_secs(u64::try_from(LEASE_S).unwrap());
        assert!(WRITE_WITHIN + CALL_TIMEOUT < lease, "a call that starts in time ends before the lease expires");
        assert!(RENEW_EVERY + CALL_TIMEOUT < WRITE_WITHIN, "one failed renewal does not lose the lease");
    }
}
