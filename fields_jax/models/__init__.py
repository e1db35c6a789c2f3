"""The networks, in flax.linen and NHWC, assembled in `fields`; `layers` has their parts."""
