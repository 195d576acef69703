//! `dispatch-architecture circles` prints import circles with their lines, of this repository or of another checkout that
//! `DISPATCH_ARCHITECTURE_ROOT` names.

use anyhow::bail;
use dispatch_architecture::imports::Imports;
use dispatch_architecture::{circles, modules, workspace};

fn main() -> anyhow::Result<()> {
    let root = workspace::root();
    match std::env::args().nth(1).as_deref() {
        Some("circles") => {
            let imports = Imports::new(&modules::read_all(&root)?);
            print!("{}", circles::report(&circles::find(&imports), &imports, &root));
        }
        _ => bail!("dispatch-architecture circles"),
    }
    Ok(())
}
