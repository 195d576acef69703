//! What every change of the sources must keep: the invariants of ARCHITECTURE.md that can be read off the sources and
//! the dependency graph, and no import circles.

#![cfg(test)]

mod dependencies;
mod sources;
