"""When a call is tried again, and how long it waits before: full jitter under an exponential ceiling, and no sooner than the server asks."""

from __future__ import annotations

import dataclasses
import random
import time
from typing import Callable, FrozenSet

from sconce._errors import SconceError

_UNARY = frozenset({"UNAVAILABLE"})
# A stream that goes on where it broke may also be tried after it stalled, or was cut off by a server that stops.
_STREAM = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"})

# Of the system: neither the user's seed nor a fork makes all ranks wait the same.
_random = random.SystemRandom()


@dataclasses.dataclass(frozen=True)
class RetryPolicy:
    """How often, and how patiently.

    attempts: of a call, the first one included; 1 is never again. Of a stream they are counted from the start after progress.
    initial_backoff, max_backoff: seconds, of the ceiling. growth: by what the ceiling is multiplied after each failure.
    """

    attempts: int = 5
    initial_backoff: float = 0.2
    max_backoff: float = 5.0
    growth: float = 2.0
    codes: FrozenSet[str] = _UNARY
    sleep: Callable[[float], None] = time.sleep

    def for_streams(self, attempts: int) -> RetryPolicy:
        """The same for streams that resume."""
        return dataclasses.replace(self, attempts=attempts, codes=_STREAM)

    def for_watches(self) -> RetryPolicy:
        """The same for streams that are waited for without end. A wait is at most about three tenths of the time since the first failure: whoever waits for a server
        that is restarted sees it soon after it is there, and not after seconds."""
        return dataclasses.replace(self, attempts=1 << 62, codes=_STREAM, initial_backoff=self.initial_backoff / 2, growth=1.3)

    def ceiling(self, failures: int) -> float:
        """The longest wait after so many failures.

        >>> [RetryPolicy().ceiling(n) for n in (1, 2, 3, 9, 99)]
        [0.2, 0.4, 0.8, 5.0, 5.0]
        """
        return float(min(self.max_backoff, self.initial_backoff * self.growth ** min(failures - 1, 30)))


class Retrying:
    """Counts the attempts of one call. Not thread-safe."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._failures = 0

    def progress(self) -> None:
        """Something was achieved: count from the start again."""
        self._failures = 0

    def wait(self, error: SconceError) -> None:
        """Returns when the call that failed so should be tried again, having waited; otherwise raises the error."""
        self._failures += 1
        if self._failures >= self._policy.attempts or not self._is_transient(error):
            raise error
        delay = _random.uniform(0, self._policy.ceiling(self._failures))
        self._policy.sleep(delay + min(error.retry_delay or 0.0, 60.0))

    def _is_transient(self, error: SconceError) -> bool:
        return error.code in self._policy.codes or (error.code == "RESOURCE_EXHAUSTED" and error.retry_delay is not None)
