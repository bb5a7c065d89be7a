"""Fuzz a reader of strangers' files with atheris (`pip install atheris`).

    python tests/fuzz/fuzz.py TARGET SECONDS [CORPUS]

Targets are in targets.py. Memory is held to 1.5 GB and an input to ten seconds; what is found is
written as a file `crash-...`, to be put into tests/fuzz/found under the name of its target.
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["tidegate", "json", "pickletools", "zipfile"]):
    import targets

if __name__ == "__main__":
    _, name, seconds, *corpus = sys.argv
    folder = Path(corpus[0] if corpus else tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(targets.seeds(name)):
        (folder / f"seed-{number}").write_bytes(data)
    atheris.Setup(
        [
            sys.argv[0],
            str(folder),
            f"-max_total_time={seconds}",
            "-rss_limit_mb=1536",
            "-timeout=10",
            "-max_len=20000",
            "-print_final_stats=1",
        ],
        lambda data: targets.run(name, data),
    )
    atheris.Fuzz()
