"""Benchmarks of FlexiFlow, side by side with its lower limits and its peers.

Run them with ``python -m benchmarks``; ``--help`` lists the options.
"""
