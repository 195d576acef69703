//! Prints what the checks find, for those who work on it:
//!
//! * `dispatch-architecture circles`: import circles with their lines;
//! * `dispatch-architecture words [PATH…]`: words that are out of use by folder, and each place below the paths.
//!
//! Both read this repository, or another checkout that `DISPATCH_ARCHITECTURE_ROOT` names.

use std::path::{Path, PathBuf};

use anyhow::bail;
use dispatch_architecture::imports::Imports;
use dispatch_architecture::words::{self, Hit, Rules};
use dispatch_architecture::{circles, modules, workspace};

fn main() -> anyhow::Result<()> {
    let root = workspace::root();
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next().as_deref().and_then(|command| command.to_str()) {
        Some("circles") => {
            let imports = Imports::new(&modules::read_all(&root)?);
            print!("{}", circles::report(&circles::find(&imports), &imports, &root));
        }
        Some("words") => {
            let paths: Vec<PathBuf> = arguments.map(PathBuf::from).collect();
            let mut hits = words::find(&Rules::of_this_repository()?, &root)?;
            hits.retain(|hit| paths.is_empty() || paths.iter().any(|path| is_below(&root, hit, path)));
            if !paths.is_empty() {
                for hit in &hits {
                    println!("{hit}");
                }
            }
            println!("{}{:5}  in all", words::table(&hits), hits.len());
        }
        _ => bail!("dispatch-architecture circles | words [PATH...]"),
    }
    Ok(())
}

/// Whether a hit is in a file or folder, given from the working directory or from the root on.
fn is_below(root: &Path, hit: &Hit, path: &Path) -> bool {
    let below = |path: &Path| path.canonicalize().is_ok_and(|path| root.join(&hit.path).starts_with(path));
    below(path) || below(&root.join(path))
}
