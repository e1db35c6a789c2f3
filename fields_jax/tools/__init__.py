"""Commands for planning trainings."""
