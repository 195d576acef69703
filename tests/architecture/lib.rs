//! What the checks of this repository's sources are made of. Everything is found from `cargo metadata` and the `mod`
//! items of the sources; no path of a package or a module is written down here.
//!
//! * [`workspace`] lists packages and their crates,
//! * [`production`] separates the code of a file from its tests, [`lexis`] from its comments and strings,
//! * [`modules`] reads the modules of a crate with their items, imports and paths,
//! * [`imports`] resolves those paths to the files that define what they name,
//! * [`circles`] finds the circles among them,
//! * [`words`] searches names and prose for words that are out of use (`banned.txt`).

pub mod circles;
pub mod imports;
pub mod lexis;
pub mod modules;
pub mod production;
pub mod words;
pub mod workspace;
