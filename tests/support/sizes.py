"""The sizes at which tests train networks."""

# The least that config.model can be asked for.
SMALLEST = dict(
    encoder_width=0.25,
    encoder_depth=0.25,
    synthesizer_width=4,
    token_dim=8,
    adain_hidden=4,
    emotion_hidden=(8,),
)
