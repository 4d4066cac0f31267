"""Errors that a person can cause: one clear sentence each, shown without a traceback, exit code 2."""


class JetsweepError(ValueError):
    """A user's mistake, or a fault of their machine. The command line prints the message and exits with 2.

    The message is one sentence that names the file (and line, path) concerned, what was expected and what was found.
    """


class ExperimentError(JetsweepError):
    """The experiment file is wrong; the message starts with ``file:line: path:``."""


class DataError(JetsweepError):
    """A dataset or a source file is missing, damaged or not of the expected layout."""


class ResourceError(JetsweepError):
    """More workers, GPUs, memory or disk were asked for than there are."""


class SweepBusyError(JetsweepError):
    """Another process runs the sweep."""


class TrackingError(JetsweepError):
    """The tracking server or its storage cannot be reached or written."""


class MetricError(JetsweepError):
    """A figure of merit cannot be computed from these scores or jets, or its settings make no sense."""
