"""How much memory the run has needed at most."""

import sys

import torch


def peak_memory_mib(device: torch.device) -> int:
    """The most the device's memory held, in MiB; on a CPU, this process's memory."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20)
    try:
        import resource
    except ImportError:  # Windows has no such module
        import psutil

        return round(psutil.Process().memory_info().peak_wset / 2**20)
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts in bytes, Linux in KiB
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20)
