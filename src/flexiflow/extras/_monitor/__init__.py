"""What `flexiflow.extras.monitor` is made of."""

from typing import Final

OWNER: Final = "flexiflow monitor"
"""The component name under which a monitor subscribes."""
