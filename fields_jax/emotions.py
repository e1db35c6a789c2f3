"""AffectNet's classes, whose ids every data set, network and score of this project uses."""

from __future__ import annotations

EMOTIONS = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")  # by id
N_EMOTIONS = len(EMOTIONS)
NEUTRAL = EMOTIONS.index("neutral")
