#!/usr/bin/env bash
# Creates .venv and installs the three distributions, editable, with all that tests need, at the versions of
# constraints.txt. Quiet on success; the log is kept in .venv/setup.log.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Error: $python is older than Python 3.11; name another with PYTHON=..." >&2; exit 1; }
echo "Setting up .venv (the first time downloads several GB and takes minutes) ..." >&2
if command -v uv >/dev/null; then
  [ -x .venv/bin/python ] || uv venv -q --seed --python "$python" .venv
  install=(uv pip install --python .venv/bin/python)
else
  [ -x .venv/bin/python ] || "$python" -m venv .venv
  install=(.venv/bin/python -m pip --disable-pip-version-check install)
fi
"${install[@]}" -c constraints.txt -e protos -e client -e '.[dev]' >.venv/setup.log 2>&1 || { tail -n 20 .venv/setup.log >&2; exit 1; }
echo "Ready: source .venv/bin/activate" >&2
