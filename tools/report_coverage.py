"""Report what the tests cover; without a Redis server, leave out what needs one."""

import subprocess
import sys

from tools.redis_server import MISSING, find_server


def main() -> int:
    """Report, and return 0 if everything is covered that can be."""
    omitted: list[str] = []
    if find_server() is None:
        sys.stderr.write(f"{MISSING}: its transport is not counted\n")
        omitted = ["--omit=*/extras/durable/_redis/*.py"]
    return subprocess.call([sys.executable, "-m", "coverage", "report", *omitted])


if __name__ == "__main__":
    sys.exit(main())
