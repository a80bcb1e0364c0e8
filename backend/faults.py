"""What a person can mend, told in words and never as a traceback."""

import logging

log = logging.getLogger("darkroom")


class Faults(Exception):
    """One or more things that the user can mend, each a full sentence: which file or option, what is wrong, what to do."""

    def __init__(self, *messages: str):
        super().__init__("\n".join(messages))
        self.messages = list(messages)


class FaultList:
    """Collects faults, so that all of them are told at once."""

    def __init__(self):
        self.messages: list[str] = []

    def add(self, message: str) -> None:
        """Remember one fault; the same sentence twice counts once."""
        if message not in self.messages:
            self.messages.append(message)

    def extend(self, messages) -> None:
        """Remember several faults."""
        for message in messages:
            self.add(message)

    def raise_if_any(self) -> None:
        """Raises Faults with everything collected, if there is anything."""
        if self.messages:
            raise Faults(*self.messages)


def nearest(name: str, known) -> str | None:
    """The known name most like this one, or None where nothing is near."""
    import difflib

    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def did_you_mean(name: str, known) -> str:
    """' Did you mean X?' with the nearest known name, or nothing."""
    near = nearest(name, known)
    return f" Did you mean {near}?" if near else ""
