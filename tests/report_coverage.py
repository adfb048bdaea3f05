"""The report of what the tests cover; where there is no Redis server, without what needs one."""

import subprocess
import sys

from tests.redis_server import MISSING, find_server


def main() -> int:
    """Report, and tell whether all is covered that can be."""
    omitted: list[str] = []
    if find_server() is None:
        sys.stderr.write(f"{MISSING}: its transport is not counted\n")
        omitted = ["--omit=*/extras/durable/_redis*.py"]
    return subprocess.call([sys.executable, "-m", "coverage", "report", *omitted])


if __name__ == "__main__":
    sys.exit(main())
