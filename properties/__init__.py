"""Properties: what the contract promises of every script and schedule, on both backends.

Hypothesis draws the scripts. Three kinds of modules belong together: reference models with the
machines that compare them (`programs`, `bus_model`, `engine_model`), explorations of schedules, and
`faults`, plain implementations with planted faults that the kit's checkers must find.
"""
