"""What programs import that a check shows as a counterexample or writes as a test (P5).

Each check shows only a few of these names. They stay, so that a test that was written once still
runs with later versions. Nothing here is meant to be called by hand.
"""

from flexiflow.testing._bus.company import call_in_company
from flexiflow.testing._bus.judging import judge_bus
from flexiflow.testing._component.judging import judge_component
from flexiflow.testing._examiner.asserting import asserting
from flexiflow.testing._examiner.kit import bounded, mark
from flexiflow.testing._machine.desk import open_desk as open_machine
from flexiflow.testing._store.desk import open_desk as open_store
from flexiflow.testing._transport.desk import open_desk as open_transport
from flexiflow.testing._transport.desk_calls import Means
from flexiflow.testing._transport.subject import play_scenario

__all__ = [
    "Means",
    "asserting",
    "bounded",
    "call_in_company",
    "judge_bus",
    "judge_component",
    "mark",
    "open_machine",
    "open_store",
    "open_transport",
    "play_scenario",
]
