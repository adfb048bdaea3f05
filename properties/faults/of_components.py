"""Components and engines with one planted fault each, for `check_component` to find."""

from properties.faults import of_hosting, of_lasting, of_leaving, of_marks, of_messages, of_turns
from properties.faults._component_registry import COMPONENT_FAULTS, ComponentFault

__all__ = [
    "COMPONENT_FAULTS",
    "ComponentFault",
    "of_hosting",
    "of_lasting",
    "of_leaving",
    "of_marks",
    "of_messages",
    "of_turns",
]
