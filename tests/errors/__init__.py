"""Tests of errors: failures, cancellations, exits, retries, and what each of them says."""
