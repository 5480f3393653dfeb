"""What the gateway costs, measured between a client and a provider on one machine.

Run `python -m benchmarks` from the repository's root; README.md in this directory says how it measures.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = (str(ROOT / "server"), str(ROOT / "clients" / "python" / "src"))

# The checkout itself is measured, whether or not it is installed.
sys.path[:0] = [path for path in SOURCES if path not in sys.path]
