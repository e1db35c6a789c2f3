"""Every loss term: element-wise functions in terms, emotion, cycle; one list of names in table."""
