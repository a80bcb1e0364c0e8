"""Open the page: `./setup.sh gui`, or `python app.py --option value ...`."""

import os
import sys
from pathlib import Path

from backend.faults import Faults
from gui.options import read_page_words

ROOT = Path(__file__).resolve().parent
RAN, MENDABLE = 0, 2


def main(words: list[str]) -> int:
    """Do what the words ask for; returns the exit code."""
    # Read by Gradio when it is imported: it must tell nobody of this page.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        request = read_page_words(words)
        if request.help:
            print(request.help)
            return RAN
        # Where runs work too, so that a relative path in the form means one place.
        os.chdir(ROOT)
        from gui.server import serve

        serve(request.options)
        return RAN
    except Faults as faults:
        for message in faults.messages:
            print(message, file=sys.stderr)
        return MENDABLE
    except KeyboardInterrupt:
        return RAN


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
