"""The properties: what the contract promises of any script, on both backends."""
