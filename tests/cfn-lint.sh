#!/bin/sh
# Lints rendered CloudFormation templates: `tests/cfn-lint.sh TEMPLATE...`. Errors and warnings both fail.
# DISPATCH_CFN_LINT names another cfn-lint than the pinned one of .venv.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
exec "${DISPATCH_CFN_LINT:-$root/.venv/bin/cfn-lint}" --non-zero-exit-code warning --regions ap-northeast-2 -- "$@"
