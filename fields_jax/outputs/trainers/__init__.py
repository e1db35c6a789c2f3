"""Sets of frames in the layouts that trainers of head avatars read."""
