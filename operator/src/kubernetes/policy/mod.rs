//! Pure decisions of the controller: when to requeue, when to stop retrying, how many stack operations run, what a
//! namespace allows.

pub mod operation_slots;
pub mod requeue;
pub mod retry;
pub mod tenancy;
