#!/usr/bin/env bash
# Runs the fast tests in an environment of its own: the oldest packages that pyproject.toml allows, or the newest.
#
#   tests/reliability/environments.sh oldest            # each >= read as ==, with python3.11
#   tests/reliability/environments.sh newest            # what an index has today
#   PYTHON=python3.13 tests/reliability/environments.sh newest
#   tests/reliability/environments.sh oldest tests/test_metrics.py    # further arguments go to pytest
#
# The environment is built in $ENVIRONMENT (a temporary folder if that is not set; it takes 6 GB) and kept if $ENVIRONMENT
# is set, so that a second run starts at once. uv resolves the oldest versions; it comes from the package index.
set -euo pipefail
cd "$(dirname "$0")/../.."
case "${1:-}" in
  oldest) resolution=lowest-direct ;;
  newest) resolution=highest ;;
  *) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
shift
folder=${ENVIRONMENT:-}
if [ -z "$folder" ]; then
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
fi
python=$folder/bin/python
if [ ! -x "$folder/bin/pytest" ]; then
  "${PYTHON:-python3.11}" -m venv "$folder"
  "$python" -m pip install --quiet uv
  # resolved from the file: of a package to install, uv does not take the requirements for direct ones
  "$folder/bin/uv" pip compile --quiet --python "$python" --resolution "$resolution" --extra test pyproject.toml \
    --output-file "$folder/requirements.txt"
  "$folder/bin/uv" pip install --quiet --python "$python" --requirement "$folder/requirements.txt"
  "$folder/bin/uv" pip install --quiet --python "$python" --no-deps --editable .
fi
"$python" - <<'PYTHON'
import platform
from importlib.metadata import version

names = "torch timm numpy scipy scikit-learn pillow tifffile pydantic safetensors typer rich matplotlib onnxruntime pytest"
print(f"python {platform.python_version()},", ", ".join(f"{name} {version(name)}" for name in names.split()), flush=True)
PYTHON
# packages of different years warn about each other's deprecated names
"$python" -m pytest -W ignore::DeprecationWarning -n "${PROCESSES:-auto}" -m "not slow" "${@:-tests}"
