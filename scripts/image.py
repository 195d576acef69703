"""Writes an image with one program and the libraries it needs, without a container engine.

    image.py OUT.tar NAME:TAG PROGRAM

For test clusters; releases are built from the Containerfile. The image has no shell and no files besides: the program
as its entry point, run as user 65532, and the libraries at the paths where `ldd` finds them here. The archive has the
layout that `docker save` writes, which containerd and kind load.
"""

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

USER = "65532:65532"
# Where the public certificate authorities are on Debian; the image of the Containerfile has them at the same place.
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def libraries(program):
    """The shared libraries of a program and the loader; none for a static program."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        return []
    return sorted(set(re.findall(r"(/\S+)(?: \(0x[0-9a-f]+\))", listed.stdout)))


def stripped(program, folder):
    """A copy without debugging information, which is most of a development build."""
    copy = os.path.join(folder, os.path.basename(program))
    strip = shutil.which("strip")
    if strip is None:
        shutil.copyfile(program, copy)
    else:
        subprocess.run([strip, "-o", copy, program], check=True)
    return copy


def layer(files):
    """A tar archive of files by their paths in the image. Equal files give equal bytes."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for path, source in sorted(files.items()):
            with open(source, "rb") as file:
                entry = tarfile.TarInfo(path.lstrip("/"))
                entry.mode = 0o755
                entry.size = os.fstat(file.fileno()).st_size
                archive.addfile(entry, file)
    return content.getvalue()


def main(out, name, program):
    entry = f"/{os.path.basename(program)}"
    with tempfile.TemporaryDirectory() as folder:
        files = {path: os.path.realpath(path) for path in libraries(program)}
        files[entry] = stripped(program, folder)
        if os.path.exists(CERTIFICATES):
            files[CERTIFICATES] = CERTIFICATES
        blob = layer(files)
    digest = hashlib.sha256(blob).hexdigest()
    machine = os.uname().machine
    config = json.dumps(
        {
            "architecture": ARCHITECTURES.get(machine, machine),
            "os": "linux",
            "config": {"Entrypoint": [entry], "User": USER, "Env": [f"SSL_CERT_FILE={CERTIFICATES}"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    layer_name = f"{digest}/layer.tar"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": [layer_name]}]).encode()
    with tarfile.open(out, "w") as archive:
        for path, data in ((config_name, config), (layer_name, blob), ("manifest.json", manifest)):
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    print(f"{name}: {len(blob) // 1_000_000} MB")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
