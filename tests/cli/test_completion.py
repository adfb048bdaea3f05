"""What a shell is told when somebody presses the tab key."""

import pytest

from tests.cli.command_line import run


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("ver", "plain,verify\n"),
        ("run shop.py", "file,shop.py\n"),
        ("run shop.py log", "file,log\n"),
        ("run --on-error ", "plain,continue\nplain,raise\n"),
    ],
    ids=["command", "target", "input", "choice"],
)
def test_a_shell_completes(monkeypatch: pytest.MonkeyPatch, words: str, answer: str) -> None:
    """L1, L2: commands, the paths to a target and an input, and values are completed."""
    monkeypatch.setenv("_FLEXIFLOW_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", f"flexiflow {words}")
    monkeypatch.setenv("COMP_CWORD", str(words.count(" ") + 1))
    assert run() == (0, answer, "")
