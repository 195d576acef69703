//! Pure decisions of the controller: when to reconcile again, when failures are enough, what may run at once, what a namespace allows.

pub mod operation_slots;
pub mod requeue;
pub mod retry;
pub mod tenancy;
