"""The pictures of the documentation's diagrams, and the help of the commands."""

import re

import pytest

from tools.command_line import find_commands, show_help
from tools.drawings import draw, is_diagram, read

pytestmark = [pytest.mark.unmeasured, pytest.mark.same_everywhere]

STATES = """\
stateDiagram-v2
    state "on & #40;off#41;" as s1
    s1: after 4 s / stop
    [*] --> s1
    s1 --> ended: stop
    ended --> [*]
"""
ROOMS = """\
flowchart TD
    bus["<b>bus</b><br>_bus _background _tasks"]
    command_line["<b>command line</b>"]
    crashes["<b>search for crashes</b><br>testing._crashing"]
    command_line --> bus
"""


def test_a_state_diagram_is_read_as_mermaid_shows_it() -> None:
    """Documentation: a picture has each state, what stands below it, and each arrow."""
    diagram = read(STATES)
    assert diagram.boxes == {
        "s1": ["on & (off)", "after 4 s / stop"],
        "[*]": ["[*]"],
        "ended": ["ended"],
    }
    assert diagram.arrows == [("[*]", "s1", ""), ("s1", "ended", "stop"), ("ended", "[*]", "")]


def test_the_picture_of_the_house_is_read() -> None:
    """Documentation: a picture has each room, its name and its modules on short lines."""
    diagram = read(ROOMS)
    assert diagram.boxes == {
        "bus": ["bus", "_bus _background", "_tasks"],
        "command_line": ["command line"],
        "crashes": ["search for", "crashes", "testing.", "_crashing"],
    }
    assert diagram.arrows == [("command_line", "bus", "")]


def test_a_picture_shows_the_texts_as_they_are() -> None:
    """Documentation: a picture has the texts of the diagram, and its title is escaped."""
    picture = draw(STATES, 'a "machine"')
    shown = re.findall(r"<text[^>]*>(.*?)</text>", picture)
    assert sorted(map(str.strip, shown)) == ["after 4 s / stop", "ended", "on &amp; (off)", "stop"]
    assert 'aria-label="a &quot;machine&quot;"' in picture


def test_what_is_no_such_diagram_is_refused() -> None:
    """Documentation: a diagram that can't be drawn ends the build."""
    assert not is_diagram("sequenceDiagram\n    a ->> b: hi\n")
    with pytest.raises(ValueError, match="not a line of a diagram: 'a => b'"):
        read("flowchart TD\n    a => b\n")


def test_each_command_is_found_with_its_help() -> None:
    """Documentation: the page of the command line has each command, and commands below these."""
    found = [" ".join(command) for command in find_commands()]
    assert {"run", "verify", "dead", "dead list"} <= {*found}
    assert show_help("dead", "list").startswith("Usage: flexiflow dead list [OPTIONS]")
