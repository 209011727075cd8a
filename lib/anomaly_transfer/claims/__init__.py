"""A floor of the package, see ``anomaly_transfer.__doc__``."""
