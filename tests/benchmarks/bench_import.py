"""What `import operando` and `operando --help` cost in CPU time, against `import xarray`, in interleaved runs of fresh processes.

python tests/benchmarks/bench_import.py [--rounds 9]
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys


def cpu(code: str) -> float:
    """CPU milliseconds of a fresh interpreter that runs `code`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1e3 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


CASES = {
    "python": "pass",
    "import xarray": "import xarray",
    "import operando": "import operando",
    "import operando, and load, build, open_beamtime": "import operando as op; op.load; op.build; op.open_beamtime",
    "operando --help": "import sys; sys.argv = ['operando', '--help']\nfrom operando.cli import main\ntry: main()\nexcept SystemExit: pass",
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    for code in CASES.values():
        cpu(code)
    times: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(rounds):
        for name, code in CASES.items():
            times[name].append(cpu(code))
    peer = statistics.median(times["import xarray"])
    print(f"{'':<50} {'CPU ms':>8} {'min':>6} {'max':>6} {'/ import xarray':>16}")
    for name, values in times.items():
        print(f"{name:<50} {statistics.median(values):8.0f} {min(values):6.0f} {max(values):6.0f} {statistics.median(values) / peer:16.2f}")
