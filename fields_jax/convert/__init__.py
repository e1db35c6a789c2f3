"""Files of others (FLAME, SMIRK, TEASER, torch), read without their software and without trust."""
