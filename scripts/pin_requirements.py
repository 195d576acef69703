"""Writes the hashes of every pinned package into requirements/*.txt.

To change a version, edit its `name==version` line and run `python3 scripts/pin_requirements.py`, with uv on PATH.
Comments, order and spelling stay as they are. Each package gets the hashes of all its published files, so that one list
serves every platform.
"""

import pathlib
import re
import subprocess
import sys

LISTS = pathlib.Path(__file__).parent.parent / "requirements"
COMPILE = [
    "uv", "pip", "compile", "--quiet", "--no-deps", "--universal", "--generate-hashes",
    "--no-header", "--no-annotate", "--no-emit-index-url", "-",
]  # fmt: skip


def normalized(name: str) -> str:
    """The spelling that package indexes use for comparison."""
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> None:
    for file in sorted(LISTS.glob("*.txt")):
        # Lines with hashes are indented; everything else is written by hand.
        kept = [line.removesuffix(" \\") for line in file.read_text().splitlines() if not line.startswith(" ")]
        pins = [line for line in kept if "==" in line and not line.startswith("#")]
        compiled = subprocess.run(COMPILE, input="\n".join(pins), capture_output=True, text=True, check=False)
        if compiled.returncode != 0:
            sys.exit(f"{file.name}: {compiled.stderr}")
        hashes: dict[str, list[str]] = {}
        for line in compiled.stdout.splitlines():
            if line.startswith(" "):
                hashes[package].append(line.strip().removesuffix(" \\"))
            else:
                package = normalized(line.split("==")[0])
                hashes[package] = []
        lines = []
        for line in kept:
            of_package = hashes[normalized(line.split("==")[0])] if line in pins else []
            lines.append(" \\\n    ".join([line, *of_package]))
        file.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
