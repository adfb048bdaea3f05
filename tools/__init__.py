"""Tools for the development of FlexiFlow, which are not part of the package."""
