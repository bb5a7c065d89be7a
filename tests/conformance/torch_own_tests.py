"""PyTorch's own tests of GRUs, run against ours (or, with `--torch`, against torch's own).

    python tests/conformance/torch_own_tests.py [--torch] [--keep FOLDER]

The test files are not in torch's wheels: they are fetched from Debian's source package of PyTorch
1.13.1 (18 MB, with apt-get) and not kept. Names that torch has dropped since are put back, and
torch.nn.GRU and GRUCell are replaced by ours in the tests' eyes. These tests look at interfaces,
messages, pickling and self-consistency, not at values: a GRU with the wrong equation passes them.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

TARBALL = "pytorch_1.13.1+dfsg.orig.tar.xz"
FILES = ("test_modules.py", "test_nn.py", "nn/test_packed_sequence.py")
# What of each file concerns a GRU.
RUNS = {
    "test_modules.py": ["-k", "GRU"],
    "test_nn.py": ["-k", "RNN", "-k", "rnn", "-k", "GRU", "-k", "variable_sequence"],
    "nn/test_packed_sequence.py": [],
}
# Errors that torch's GRU owes its users, and ours does not: it has what they refuse.
DIFFERENT = {
    "test_error_RNN_seq_len_zero": "no time steps return an empty output and hx",
    "test_projections_errors_on_gru_and_rnn": "proj_size is an option",
}
SHIM = Path(__file__).with_name("_shim.py")


def main() -> int:
    """Fetch, run, and print one line a file; 77, as with automake, where nothing can be fetched."""
    options = _options()
    if not shutil.which("apt-get"):
        print("skipped: the tests are fetched with apt-get, which is not here")
        return 77
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if not _fetch(folder):
            print("skipped: Debian's source package could not be fetched")
            return 77
        failures = [name for name in FILES if not _run(folder / "test" / name, options.torch, name)]
    return 1 if failures else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--torch", action="store_true", help="test torch's own GRU")
    parser.add_argument("--keep", type=Path, help="keep the tests in this folder, and reuse them")
    return parser.parse_args()


def _fetch(folder: Path) -> bool:
    """Put the test files under `folder`."""
    if all((folder / "test" / name).exists() for name in FILES):
        return True
    tarball = folder / TARBALL
    if not tarball.exists():
        _apt(folder, "update")
        _apt(folder, "source", "--download-only", "pytorch")  # Debian's own changes are not needed
    if not tarball.exists():
        return False
    with tarfile.open(tarball) as archive:
        for member in archive:
            inside = member.name.partition("/test/")[2]
            if inside in FILES and member.isfile():
                target = folder / "test" / inside
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.extractfile(member).read())
    return True


def _apt(folder: Path, *command: str) -> None:
    """Run apt-get with lists and cache of its own; nothing is installed."""
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    sources = folder / "sources.list"
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    sources.write_text(
        f"deb-src [signed-by={keyring}] http://deb.debian.org/debian bookworm main\n"
    )
    settings = {
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder / "cache",
    }
    arguments = [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]
    subprocess.run(
        ["apt-get", *arguments, *command],
        cwd=folder,
        check=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _run(test: Path, torchs: bool, name: str) -> bool:
    """Run one file, print its outcome, and say whether it is good."""
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            SHIM,
            "torch" if torchs else "ours",
            test,
            "-v",
            *RUNS[name],
        ],
        cwd=test.parent,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
        capture_output=True,
        text=True,
    )
    outcome = re.findall(r"^Ran \d+ tests?.*|^OK.*|^FAILED.*", done.stderr, re.MULTILINE)
    print(f"{name}: {' '.join(outcome) or done.stderr[-2000:]}")
    good = bool(outcome)
    for failure in re.findall(r"^(?:FAIL|ERROR): (\w+)", done.stderr, re.MULTILINE):
        meant = None if torchs else DIFFERENT.get(failure)
        good = good and meant is not None
        print(f"  {failure}: {'differs on purpose: ' + meant if meant else 'FAILED'}")
    return good


if __name__ == "__main__":
    sys.exit(main())
