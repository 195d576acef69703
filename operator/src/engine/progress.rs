//! Progress events of the engine. It never prints; the listener decides what to do with an event.

use crate::cloud::ResourceChange;
use crate::cloud::stack::StackEvent;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A step begins, as text for people: `creating stack coactus-default-seoul`.
    Step(String),
    /// A rollback begins or continues.
    Rollback(String),
    /// The changes that are about to be applied.
    Changes(Vec<ResourceChange>),
    /// A resource of the stack (or the stack itself) changed its state.
    Stack(StackEvent),
    /// An operation skips resources as requested: the operation and the logical ids.
    ResourcesSkipped(String, Vec<String>),
    /// Information that requires no action.
    Note(String),
}

/// Receives the progress of a run.
pub trait Progress: Send {
    /// Called in the order of the events. Must not block.
    fn report(&mut self, event: Event);
}

impl<F: FnMut(Event) + Send> Progress for F {
    fn report(&mut self, event: Event) {
        self(event);
    }
}

/// Discards all progress.
pub struct Silent;

impl Progress for Silent {
    fn report(&mut self, _event: Event) {}
}
