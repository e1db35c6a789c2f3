"""Dense correspondence of two heads, and what it carries from one to the other."""
