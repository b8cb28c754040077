#!/usr/bin/env bash
# Generates the protobuf stubs into DIR (default: protos/). The generator is old on purpose: its code loads on every
# protobuf from 6.31 to 7.x. It lives in a folder of its own because its metadata asks for an older protobuf.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-protos}
tools=.venv/protoc
python=.venv/bin/python
[ -d "$tools/grpc_tools" ] || "$python" -m pip install -q --disable-pip-version-check --no-deps --target "$tools" grpcio-tools==1.73.1
mkdir -p "$out"
PYTHONPATH=$tools "$python" -m grpc_tools.protoc -Iprotos --python_out="$out" --pyi_out="$out" \
  protos/ouzel_protos/{v1,torchserve,oip}/*.proto
# Services that are called by generated stubs; those of others are called by path.
PYTHONPATH=$tools "$python" -m grpc_tools.protoc -Iprotos --grpc_python_out="$out" \
  protos/ouzel_protos/v1/{job,dataset,model,audit}.proto
