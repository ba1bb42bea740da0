"""Whether OpenMP's idle threads spin or sleep while they wait, which is read once, when torch is loaded.

Spinning is a third faster where a training has the processors to itself, and several times slower beside another one
(two cores: 0.08 against 0.11 s a step alone, 0.80 against 0.27 s beside another). The command line decides by the load;
`import unitkit` leaves a process as it is.
"""

from __future__ import annotations

import math
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from statistics import median

VARIABLE = "OMP_WAIT_POLICY"
SAYS = (VARIABLE, "GOMP_SPINCOUNT", "KMP_BLOCKTIME")  # by which users say it themselves
LOADAVG = Path("/proc/loadavg")
QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of Linux's control groups, version 2
_reason = ""


def decide(*, shared: bool = False) -> None:
    """Set OMP_WAIT_POLICY to passive where others are at work, unless the user has said how to wait. Before torch is.

    Args:
        shared: several processes of ours will share this machine, whatever its load is now.
    """
    global _reason
    if said := next((name for name in SAYS if name in os.environ), None):
        _reason = f"{said}={os.environ[said]}, as the environment says"
    elif "torch" in sys.modules:
        _reason = "as torch was loaded"
    elif shared or os.environ.get("LOCAL_WORLD_SIZE", "1") not in ("", "1"):
        os.environ[VARIABLE] = "passive"
        _reason = "they sleep, as several of our processes share the machine"
    elif (quota := allowed()) < usable():
        os.environ[VARIABLE] = "passive"
        _reason = f"they sleep, as the time of {quota:g} processors is shared by {usable()} threads"
    elif (others := busy()) > (idle := (os.cpu_count() or 1) - usable()):
        os.environ[VARIABLE] = "passive"
        _reason = f"they sleep, as {others:g} other threads were at work"
    else:
        _reason = "they spin, as " + (f"{idle} processors are left to others" if others else "nothing else was at work")


def describe() -> str:
    """What was decided, and why."""
    return f"idle threads: {_reason or 'undecided, as this is no command'}"


def usable() -> int:
    """The processors that torch will take: those of this process, fewer where OMP_NUM_THREADS says so."""
    ours = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    said = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return min(ours, int(said)) if said.isdecimal() and int(said) else ours


def allowed() -> float:
    """The processors' worth of time that a container grants: spinning would use up what the others need."""
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = QUOTA.read_text().split()
        return int(quota) / int(period)
    return math.inf  # no container, or one without a limit: "max"


def busy() -> float:
    """Threads of others at work on this machine: the median of a few looks, as one may catch a passing one."""
    looks = []
    for _ in range(5):
        with suppress(OSError, ValueError, IndexError):
            looks.append(int(LOADAVG.read_text().split()[3].partition("/")[0]) - 1)  # without ourselves
        time.sleep(0.01)
    if not looks:  # not Linux
        with suppress(OSError, AttributeError):
            return float(round(os.getloadavg()[0]))
        return 0.0
    return max(0.0, float(median(looks)))
