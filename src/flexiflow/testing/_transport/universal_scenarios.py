"""The universal suite: what holds of every transport, through the bridge.

The docstring of each scenario says what is promised; its numbers are those of scale 1.
"""

from __future__ import annotations

from typing import Final

from flexiflow.testing._transport import universal_ends as ends
from flexiflow.testing._transport import universal_order as order
from flexiflow.testing._transport import universal_reach as reach
from flexiflow.testing._transport import universal_waiting as waiting
from flexiflow.testing._transport import universal_wire as wire

UNIVERSALS: Final = (
    wire.is_written_as_cloudevents,
    wire.arrives_intact,
    wire.knows_its_delivery,
    wire.refuses_what_it_can_not_write_or_read,
    wire.sends_nothing_back,
    reach.shares_among_workers,
    reach.keeps_topics_apart,
    reach.isolates_patterns,
    reach.shows_what_was_before,
    reach.gives_all_to_each_group,
    reach.goes_on_after_a_worker_has_left,
    reach.gives_again_what_was_refused,
    reach.survives_many_refusals,
    reach.buries_what_always_fails,
    order.waits_for_the_one_before,
    order.keeps_keys_in_order,
    order.closes_many_at_once,
    order.closes_with_much_in_flight,
    order.waits_while_the_log_is_full,
    order.survives_restarts,
    ends.refuses_until_it_is_open_again,
    waiting.outlasts_a_lease,
    waiting.holds_a_key_back_over_restarts,
    waiting.passes_what_fails,
    waiting.goes_on_after_a_loss,
    waiting.holds_so_many_bytes,
    waiting.rolls_to_more_patterns,
    waiting.rolls_over_partitions,
)
"""All scenarios; those of one clause are played in this order."""
