"""The counters of the service, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Measures:
    """Counters of a service.

    Attributes:
      registry: All of them.
      requests: Requests by route and status.
      seconds: Seconds of requests by route.
      batch_size: Sizes of batches by queue.
      waiting: Items that wait, by queue.
      tokens: Tokens that were generated.
      reloads: Reloads by result.
    """

    def __init__(self):
        self.registry = CollectorRegistry()
        options = {"namespace": "docproduct", "registry": self.registry}
        self.requests = Counter("requests", "Requests.", ["route", "status"], **options)
        self.seconds = Histogram("request_seconds", "Time to answer.", ["route"], buckets=_SECONDS, **options)
        self.batch_size = Histogram("batch_size", "Worked on together.", ["queue"], buckets=_SIZES, **options)
        self.waiting = Gauge("waiting", "Requests in a queue.", ["queue"], **options)
        self.tokens = Counter("written_tokens", "Tokens that the generator wrote.", **options)
        self.reloads = Counter("reloads", "Models and index loaded again.", ["result"], **options)
