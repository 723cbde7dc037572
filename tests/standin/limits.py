"""PubChem's limits, enforced: requests a second, requests a minute, running time a minute; and a count of offences."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    per_second: int = 5
    per_minute: int = 400
    running: float = 300.0
    minute: float = 60.0
    block: float = 30.0


class Guard:
    """Decides whether a request is let in, and remembers every one that was not."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._lock = threading.Lock()
        self.arrivals: deque[float] = deque()
        """When each request of the last minute came, by the monotonic clock."""
        self._running: deque[tuple[float, float]] = deque()
        self._until = 0.0
        self.over_limit = 0
        """Requests that broke a limit."""
        self.during_pause = 0
        """Requests that came while everybody had been told to wait."""
        self.served = 0
        self.worst_second = 0

    def admit(self) -> bool:
        now = time.monotonic()
        limits = self.limits
        with self._lock:
            if now < self._until:
                self.during_pause += 1
                return False
            self.arrivals.append(now)
            while self.arrivals and self.arrivals[0] <= now - limits.minute:
                self.arrivals.popleft()
            second = sum(1 for at in self.arrivals if at > now - 1.0)
            self.worst_second = max(self.worst_second, second)
            running = sum(spent for at, spent in self._running if at > now - limits.minute)
            if second > limits.per_second or len(self.arrivals) > limits.per_minute or running > limits.running:
                self.over_limit += 1
                self._until = now + limits.block
                return False
            self.served += 1
            return True

    def close_for(self, seconds: float) -> None:
        """Tell everybody to wait, as a fault does."""
        with self._lock:
            self._until = max(self._until, time.monotonic() + seconds)

    def spent(self, seconds: float) -> None:
        with self._lock:
            self._running.append((time.monotonic(), seconds))
            while len(self._running) > 5000:
                self._running.popleft()

    def header(self, refused: bool, colour: str = "Green") -> str:
        """The throttling header. What PubChem's percentages are of is not published: within the limits, Green."""
        percent = {"Green": 17, "Yellow": 60, "Red": 90, "Black": 303}[colour]
        line = (f"Request Count status: Green (1%), Request Time status: Green (0%),"
                f" Service status: {colour} ({percent}%)")
        return line + (", too many requests per second or blacklisted" if refused else "")
