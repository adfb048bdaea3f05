"""The examiner: what the examinations of buses, components and transports share (P1)."""
