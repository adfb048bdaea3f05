"""Programs for those who develop FlexiFlow; they are not part of the package."""
