#!/usr/bin/env bash
# Writes the names and versions installed in .venv to constraints.txt, our own distributions left out. NVIDIA's and
# triton are left out too: torch pins the ones that fit it, and they exist on some platforms only.
set -euo pipefail
cd "$(dirname "$0")/.."
{
  echo "# Versions that were tested together. Written by make lock."
  .venv/bin/python -m pip --disable-pip-version-check freeze --exclude-editable |
    grep -E '^[A-Za-z0-9._-]+==' | grep -vE '^(nvidia-|cuda-|triton==|pip==|setuptools==|wheel==|uv==)' | sort -f
} >constraints.txt
