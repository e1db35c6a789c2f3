"""What a person takes away: arrays, meshes, pictures and pages of faces."""
