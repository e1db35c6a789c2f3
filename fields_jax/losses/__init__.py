"""Every loss term: element-wise functions in terms, emotion, cycle; their list in registry."""
