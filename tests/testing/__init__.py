"""Tests of `flexiflow.testing`."""
