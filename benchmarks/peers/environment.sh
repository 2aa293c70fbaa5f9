#!/usr/bin/env bash
# The environment of the peers that benchmarks/latency.py and benchmarks/peers measure: bash benchmarks/peers/environment.sh DIR
# It is apart from crdkit's, so that neither decides the versions of the other. 7 GB; no weights are downloaded.
set -euo pipefail
python3 -m venv "$1"
"$1/bin/pip" install -q "anomalib==2.7.0" "openvino>=2025.0" onnx onnxscript
