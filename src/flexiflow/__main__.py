"""The entry point of the command `flexiflow`, and of `python -m flexiflow`."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path


def main() -> None:
    """Run the command line, and exit with its status (L5)."""
    try:
        # Imported only here: the core must not need click.
        from flexiflow._cli.commands import run_command_line  # noqa: PLC0415
    except ModuleNotFoundError as exc:
        if exc.name != "click":
            raise
        sys.stderr.write("flexiflow: its command line needs click: pip install flexiflow[cli]\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    try:
        sys.exit(run_command_line())
    finally:
        _drop_what_nobody_reads()


def _drop_what_nobody_reads() -> None:
    """Drop output that can't be written; at exit the interpreter would complain about it."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            with (
                suppress(OSError, ValueError, AttributeError),
                Path(os.devnull).open("wb") as nowhere,
            ):
                os.dup2(nowhere.fileno(), stream.fileno())


if __name__ == "__main__":
    main()
