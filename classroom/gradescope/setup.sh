#!/usr/bin/env bash
# What Gradescope runs once, when the image is built: Python with PyTorch's CPU build.
set -euo pipefail
ROOT="${AUTOGRADER_ROOT:-/autograder}"
apt-get update -q
apt-get install -yq python3 python3-venv python3-pip
python3 -m venv "$ROOT/venv"
"$ROOT/venv/bin/pip" install -q --extra-index-url https://download.pytorch.org/whl/cpu -r "$ROOT/source/requirements.txt"
