"""Puts hw04/code, with lstlm and backstage, on Python's path: imported before them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "hw04" / "code"))
