"""Running scripts where there is no server: what is left of a failure."""

from typing import Any
from weakref import ref

import pytest

from flexiflow.extras._redis.replies import Broken
from flexiflow.extras._redis.url import parse_url
from flexiflow.extras.durable import TransportUnavailable
from flexiflow.extras.durable._redis.epochs import Epochs
from flexiflow.extras.durable._redis.network import Network
from flexiflow.extras.durable._redis.scripts import STANDING


class Dead:
    """Connections none of which gets an answer."""

    is_alive = True

    def open(self, _server: object) -> Any:
        """Open one."""
        return self

    async def call(self, *_arguments: object) -> Any:
        """Get no answer."""
        raise Broken("gone")


@pytest.mark.parametrize("many", [False, True])
async def test_a_failed_call_leaves_no_reference_cycle(*, many: bool) -> None:
    """B6: In an outage there is one failure after another; each is freed without the collector."""
    server, dead = parse_url("redis://localhost"), Dead()
    epochs = Epochs(server.address, "p", None)
    network = Network(dead, server, epochs, prefix="p", seconds=1, is_cluster=False)  # type: ignore[arg-type]
    with pytest.raises(TransportUnavailable) as raised:
        if many:
            await network.run_all(STANDING, dict.fromkeys(range(99), ("0", "g")))
        else:
            await network.run(0, STANDING, "0", "g")
    failure = ref(raised.value)
    del raised
    assert failure() is None
