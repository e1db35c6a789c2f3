"""Pages of one HTML file each: the report of training runs, and the gallery of faces."""
