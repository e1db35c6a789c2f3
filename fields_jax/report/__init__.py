"""One self-contained HTML page about one or two training runs."""
