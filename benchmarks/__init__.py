"""What FlexiFlow costs, measured side by side with its limits and its peers.

Run it with ``python -m benchmarks``; ``--help`` tells the options.
"""
