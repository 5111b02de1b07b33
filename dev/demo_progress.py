"""What the demo prints while a prompt runs."""

from __future__ import annotations

import sys
import time

from .server import Event


class Progress:
    """Shows the progress of a prompt, node by node, and the time of each node."""

    BAR = 24

    def __init__(self, titles: dict[str, str]):
        self.titles = titles
        self.node: str | None = None
        self.started = 0.0

    def __call__(self, event: Event) -> None:
        if event.type == "executing":
            self._end_node()
            self.node, self.started = event.data["node"], time.monotonic()
            self._show("...")
        elif event.type == "progress":
            value, total = event.data["value"], event.data["max"]
            filled = self.BAR * value // max(total, 1)
            bar = "#" * filled + "." * (self.BAR - filled)
            self._show(f"[{bar}] {value} of {total}")

    def _end_node(self) -> None:
        if self.node in self.titles:
            clear = "\r\033[K" if sys.stdout.isatty() else ""
            print(clear + timed(self.titles[self.node], self.started), flush=True)

    def _show(self, state: str) -> None:
        if self.node in self.titles and sys.stdout.isatty():
            print(f"\r\033[K  {self.titles[self.node]:<38}{state}", end="", flush=True)


def timed(what: str, started: float) -> str:
    return f"  {what:<38}{time.monotonic() - started:6.2f} s"
