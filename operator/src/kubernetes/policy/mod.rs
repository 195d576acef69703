//! Pure decisions of the controller: when to requeue, when to stop retrying, how many stack operations run, what a
//! namespace allows, and what a spec may ask for.

pub mod access;
pub mod images;
pub mod operation_slots;
pub mod requeue;
pub mod restrictions;
pub mod retry;
pub mod tenancy;
