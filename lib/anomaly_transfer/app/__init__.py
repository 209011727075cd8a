"""The command line, and a person's own pictures."""

#: Of every fit of which nothing else is said.
DEFAULT_METHOD = "combined"
DEFAULT_BACKBONE = "efficientnet_lite0"
