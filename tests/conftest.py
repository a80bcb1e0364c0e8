"""Before anything is imported: one thread for each process, because tiny models gain nothing from more and tests run side by side."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
