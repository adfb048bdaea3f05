"""Violations as a file of tests: `flexiflow verify --write` (P5)."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Final

from flexiflow._cli.problems import CannotRun
from flexiflow._cli.target import folder_of, loaded_by_path
from flexiflow._text import counted, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flexiflow.testing import ContractViolation

MARK: Final = "# Written by `flexiflow verify"
"""How a file begins that may be replaced."""
_FUTURE: Final = "from __future__ import annotations"
_FROM_FILES: Final = "from importlib.util import module_from_spec, spec_from_file_location"
_TEST: Final = "\n\n\ndef test_"
_WORD: Final = re.compile("[a-z0-9]+")
_LONGEST_NAME: Final = 60
_START: Final = '\n\n\nif __name__ == "__main__":\n'


def check_free(path: str) -> None:
    """Refuse a file that is not to be written.

    Raises:
        CannotRun: it is something that `flexiflow verify` has not written, or it can't be written.
    """
    file = Path(path)
    if path == "-":
        reason = "standard output gets the table: name a file"
    elif os.path.lexists(file):
        reason = _why_kept(file)
    elif not file.parent.is_dir():
        reason = f"there is no folder {str(file.parent)!r}"
    else:
        reason = "" if os.access(file.parent, os.W_OK) else "nothing can be written to its folder"
    if reason:
        raise CannotRun(f"--write {path!r}: {reason}")


def _why_kept(file: Path) -> str:
    """Return why something that exists is not to be replaced, or ""."""
    # To open a pipe would wait for somebody who writes to it.
    if not file.is_file():
        return "it exists, and is no file"
    if not os.access(file, os.W_OK):
        return "the file can't be written"
    try:
        with file.open(encoding="utf-8", errors="replace") as opened:
            begins = opened.read(len(MARK))
    except OSError as exc:
        return f"it can't be replaced: {exc}"
    if begins == MARK:
        return ""
    return (
        "the file exists, and was not written by `flexiflow verify`: name another one, or remove it"
    )


def write_tests(path: str, targets: Sequence[str], violations: Sequence[ContractViolation]) -> str:
    """Write a test for each violation to a file, if there are any, and return what came of it.

    Args:
        path: the file.
        targets: the targets that the tests import; the first one is what was verified.
        violations: what was found.
    """
    if not violations:
        return f"nothing was found, so {path} was not written"
    start = Path(path).resolve().parent
    folders = dict.fromkeys(_relative(folder_of(target), start) for target in targets)
    by_path = dict(filter(None, map(loaded_by_path, targets)))
    names = _names_of(violations)
    head = [
        f"{MARK} {printable(targets[0])}`: each test fails as long as a violation is there.",
        *(_FUTURE, "", "import sys", *([_FROM_FILES] if by_path else [])),
        *("from pathlib import Path", ""),
        *(f"sys.path.insert(0, str(Path(__file__).resolve().parent / {at!r}))" for at in folders),
        *_loading({name: _relative(file, start) for name, file in by_path.items()}),
    ]
    parts = ["\n".join(head), *map(_as_test, names, violations)]
    main = "\n".join(f"    {name}()" for name in names)
    try:
        Path(path).write_text("\n\n\n".join(parts) + f"{_START}{main}\n", encoding="utf-8")
    except OSError as exc:
        return f"--write {path!r}: it can't be written: {exc}"
    return f"wrote {counted(len(violations), 'test')} to {path}"


def _loading(files: dict[str, str]) -> Sequence[str]:
    """Return the lines that make modules of files which `import` does not find by their names."""
    if not files:
        return ()
    return (
        "",
        f"for name, path in {files!r}.items():",
        "    spec = spec_from_file_location(name, Path(__file__).resolve().parent / path)",
        "    sys.modules[name] = module_from_spec(spec)",
        "    spec.loader.exec_module(sys.modules[name])",
    )


def _names_of(violations: Sequence[ContractViolation]) -> list[str]:
    """Return a name for the test of each violation, from its clause, or its claim in words."""
    seen = Counter[str]()
    names: list[str] = []
    for each in violations:
        words = "_".join(_WORD.findall(each.clause.lower()))[:_LONGEST_NAME]
        name = f"test_{words}_on_{each.backend}"
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return names


def _as_test(name: str, violation: ContractViolation) -> str:
    """Return a counterexample as one function."""
    # That of a claim is a program without a test.
    program = violation.counterexample
    text, _, test = program.rpartition(_TEST) if _TEST in program else (program, "", "")
    run = test.partition(_START)[0].partition("\n")[2]
    setting = text.removeprefix(_FUTURE).strip()
    told = f"# {violation.verdict}: {printable(violation.complaint)}"
    says = printable(f"{violation.clause}: {violation.sentence}")
    says = says.replace("\\", "\\\\").replace('"', '\\"')
    return "\n".join(
        [
            f"def {name}():",
            f'    """{says}"""',
            indent(f"{told}\n{setting}\n", "    "),
            *([run] if run else []),
        ]
    )


def _relative(folder: Path, start: Path) -> str:
    # On Windows there is no way from one drive to another.
    same = folder.drive == start.drive
    return Path(os.path.relpath(folder, start)).as_posix() if same else str(folder)
