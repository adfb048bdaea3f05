"""Tests of the examples that run FlexiFlow beside other tools."""
