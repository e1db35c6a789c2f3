"""The files that describe a face to a person: arrays, meshes, pictures; a table of writers."""
