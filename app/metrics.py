"""What the service counts, for Prometheus. One registry a server, nothing global."""

from collections.abc import Callable
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

Stage = Literal["queued", "tokenizing", "predicting", "encoding"]
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """Counters, gauges and histograms of one server.

    Attributes:
        requests: by route (template), method and status.
        request_seconds: from the headers of a request to the last byte of its answer, by route.
        request_bytes, response_bytes: bodies, by route.
        tokens: computed or taken from the cache, specials included, padding not.
        records: answered.
        answers_cut_off: answers with status 200 that ended early, by the code of the reason.
        stage_seconds: by `Stage`.
        cache_hits, cache_misses: windows found, or not, in the cache of repeated windows.
        model_restarts: starts of the model's process after its first.
        conversions: by result: done, failed.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._counter(
            "gena_requests", "Requests answered.", "route", "method", "status"
        )
        self.request_seconds = self._histogram(
            "gena_request_seconds", "Time from a request to the end of its answer.", "route"
        )
        self.request_bytes = self._counter(
            "gena_request_bytes", "Bytes of request bodies.", "route"
        )
        self.response_bytes = self._counter("gena_response_bytes", "Bytes of answers.", "route")
        self.tokens = self._counter("gena_tokens", "Tokens answered for, specials included.")
        self.records = self._counter("gena_records", "Records answered.")
        self.answers_cut_off = self._counter(
            "gena_answers_cut_off", "Answers that had begun and could not be finished.", "code"
        )
        self.stage_seconds = self._histogram(
            "gena_stage_seconds",
            "Time of a window queued or predicting, of a record tokenizing, of an answer encoding.",
            "stage",
        )
        self.cache_hits = self._counter("gena_cache_hits", "Windows found in the cache.")
        self.cache_misses = self._counter("gena_cache_misses", "Windows not found in the cache.")
        self.model_restarts = self._counter(
            "gena_model_restarts", "Starts of the model's process after its first."
        )
        self.conversions = self._counter("gena_conversions", "Conversions that ended.", "result")
        # They are there from the start, with zeros.
        for stage in get_args(Stage):
            self.stage_seconds.labels(stage=stage)

    def observe_stage(self, stage: Stage, seconds: float) -> None:
        """Record the time of one stage."""
        self.stage_seconds.labels(stage=stage).observe(seconds)

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(name, help_text, labels, registry=self.registry)

    def _histogram(self, name: str, help_text: str, *labels: str) -> Histogram:
        return Histogram(name, help_text, labels, buckets=_SECONDS, registry=self.registry)

    def gauge(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        """A gauge that is read when the metrics are."""
        Gauge(name, help_text, registry=self.registry).set_function(read)

    def exposition(self) -> tuple[bytes, str]:
        """The text format and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST
