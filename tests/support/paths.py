"""Folders that tests read from."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Beside the project, not part of it: official tokenizers and configurations.
SHARED = ROOT.parent / "shared"
