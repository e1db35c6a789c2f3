"""What a person takes away of a face: arrays, meshes and pictures, by a table of writers."""
