"""Being asked to stop: once politely, twice at once."""

import os
import signal
import time

ONE_ASKING = 0.5  # seconds: a launcher passes on to its processes the Ctrl-C that the terminal has sent them already


class StopRequest:
    """While open, Ctrl-C (or a polite kill) sets `asked` and the loop ends after the step in hand; one more, a moment later, ends the process at once."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, say):
        self.say = say
        self.asked = False
        self.asked_at = 0.0
        self.before = {}

    def __enter__(self) -> "StopRequest":
        self.before = {number: signal.signal(number, self.ask) for number in self.SIGNALS}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def ask(self, number, _frame) -> None:
        """What the signal does."""
        if self.asked and time.monotonic() - self.asked_at < ONE_ASKING:
            return
        if self.asked:
            os._exit(128 + number)
        self.asked, self.asked_at = True, time.monotonic()
        self.say("Stopping after this step, with a state to go on from. Once more ends at once.")
