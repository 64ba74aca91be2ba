"""A database that is always at its newest revision."""

import sys
from pathlib import Path

if (Path(__file__).parent / "broken").exists():
    sys.exit("there is no such table")
