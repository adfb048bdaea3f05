"""Asks for FlexiFlow's own plugin: the fixtures `bus` and `recorded`."""

pytest_plugins = ["flexiflow.testing.pytest_plugin"]
