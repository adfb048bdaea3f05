"""``python -m benchmarks``."""

import sys

from benchmarks.program import main

sys.exit(main(sys.argv[1:]))
