"""The errors a reader may meet. Each message says what is wrong and what to do about it."""


class AnomalyTransferError(Exception):
    """Base of all errors that this package raises on purpose; its text is meant for the reader."""


class DataError(AnomalyTransferError):
    """Images, masks or folders that cannot be used as they are."""


class WeightsError(AnomalyTransferError):
    """Pre-trained weights that are missing or are not what they should be."""


class LabelLeakError(AnomalyTransferError):
    """A detector tried to see test labels."""


class EvaluationError(AnomalyTransferError):
    """Scores and labels from which the metric asked for is not defined."""


class DeviceError(AnomalyTransferError):
    """A device that is not there, or whose memory does not suffice."""


class StoreError(AnomalyTransferError):
    """The store of features and records cannot be read or written."""
