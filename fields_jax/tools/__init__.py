"""Commands for those who run trainings rather than use them."""
