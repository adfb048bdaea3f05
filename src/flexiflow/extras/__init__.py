"""Optional parts, which the core does not need: import the modules that you use."""
