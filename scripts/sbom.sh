#!/usr/bin/env bash
# Writes the software bills of materials of the two programs in the format CycloneDX: target/sbom/dispatch-*.cdx.json.
# They list the crates of a release on this platform, with versions, licences and checksums.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/env.sh
target=$(rustc -vV | sed -n 's/^host: //p')
mkdir -p target/sbom
for package in operator runtime; do
    # The program writes beside each Cargo.toml, of the members that the package uses as well.
    cargo cyclonedx --quiet --format json --spec-version 1.5 --target "$target" --override-filename dispatch-sbom \
        --manifest-path "$package/Cargo.toml"
    mv "$package/dispatch-sbom.json" "target/sbom/dispatch-$package.cdx.json"
    find . -name dispatch-sbom.json -not -path './target/*' -delete
    python3 - "target/sbom/dispatch-$package.cdx.json" <<'PYTHON'
import json, sys

bom = json.load(open(sys.argv[1], encoding="utf-8"))
parts = bom["components"]
unlicensed = [part["name"] for part in parts if not part.get("licenses")]
name = bom["metadata"]["component"]["name"]
if not parts or unlicensed:
    sys.exit(f"{name}: {len(parts)} components, without a licence: {unlicensed}")
print(f"{sys.argv[1]}: {name} {bom['metadata']['component']['version']}, {len(parts)} components")
PYTHON
done
