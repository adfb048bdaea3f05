"""Tests of the bus: names, subscriptions, publishing, and what each of them refuses."""
