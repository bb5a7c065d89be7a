"""From a build to a launch: the compiler, the files it fills, the driver, and what may fail."""

import contextlib
import itertools
import subprocess
import threading
import types
import warnings

import pytest
import torch

from gpu_cases import EMULATION, library
from tidegate.nn.gpu import _arguments, _choice, _cubin, _driver, _launch, _nvrtc
from tidegate.nn.gpu._build import LARGEST_HIDDEN, SERIAL, build_for, sources

BUILD = build_for("bfloat16", 20, False)
DEVICE = torch.device("cuda", 0)

try:
    _nvrtc.library()
except _nvrtc.Unusable:
    pytestmark = pytest.mark.skip(reason="nvidia-cuda-nvrtc has no wheel for this machine")


@pytest.fixture(autouse=True)
def _nothing_is_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("TIDEGATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(_launch, "_loaded", {})
    monkeypatch.setattr(_choice, "_unusable", set())


@pytest.fixture(scope="session")
def driver_library(tmp_path_factory):
    path = tmp_path_factory.mktemp("driver") / "libcuda.so.1"
    source = str(EMULATION / "driver.cpp")
    command = ["c++", "-std=c++20", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", source]
    subprocess.run([*command, "-o", str(path)], check=True)
    return path


@pytest.fixture
def driver(monkeypatch, tmp_path, driver_library):
    """A driver that writes down what it is asked, and a torch that has two devices of sm_80."""
    import ctypes

    log = tmp_path / "log"
    monkeypatch.setenv("TIDEGATE_TEST_LOG", str(log))
    stand_in = ctypes.CDLL(str(driver_library))
    monkeypatch.setattr(_driver, "library", lambda: stand_in)
    stand_in.cuCtxSetCurrent(None)
    _driver._primary_context.cache_clear()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (8, 0))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)

    @contextlib.contextmanager
    def device(index):  # torch leaves a thread as it is where it thinks that the device is current
        before = ctypes.c_void_p()
        stand_in.cuCtxGetCurrent(ctypes.byref(before))
        if index:
            stand_in.cuCtxSetCurrent(ctypes.c_void_p(0x5000 + index))
        yield
        stand_in.cuCtxSetCurrent(before)

    def current_stream(index):
        return types.SimpleNamespace(cuda_stream=0x3000 + index)

    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.cuda, "current_stream", current_stream)
    return lambda: log.read_text().split("\n")[:-1] if log.exists() else []


@pytest.mark.parametrize("name", ["Forward", "Backward", "Previous", "Coefficients"])
def test_arguments_are_laid_out_as_in_the_source(name):
    import ctypes

    size = library(BUILD).argument_size(name.encode())
    assert ctypes.sizeof(getattr(_arguments, name)) == size


def test_every_size_fits_a_block():
    kinds = ("float32", "tf32", "float16", "bfloat16")
    sizes = range(1, LARGEST_HIDDEN + 1)
    for kind, hidden, before in itertools.product(kinds, sizes, (False, True)):
        build = build_for(kind, hidden, before)
        assert build.padded >= hidden
        assert build.padded % (16 * build.cluster) == 0
        room = 166912 if build.cluster == 1 else 232448  # of an A100, of an H100
        assert max(map(build.shared, SERIAL)) <= room
        assert 32 <= build.threads <= 256


def test_a_build_is_compiled_once_and_kept(monkeypatch, driver):
    _launch.prepare(DEVICE, BUILD)
    (kept,) = _cubin.folder().iterdir()
    assert kept.read_bytes().startswith(b"\x7fELF")
    monkeypatch.setattr(_launch, "_loaded", {})

    def compile_source(*call):
        raise AssertionError("compiled again")

    monkeypatch.setattr(_nvrtc, "compile_source", compile_source)
    _launch.prepare(DEVICE, BUILD)
    names = [line.split()[1] for line in driver() if line.startswith("cuModuleGetFunction")]
    assert names == 2 * ["gru_forward", "gru_backward", "gru_previous", "gru_coefficients"]


def test_what_the_code_is_made_of_names_its_file(monkeypatch):
    names = {_cubin._key(_cubin.options_of(BUILD, arch)) for arch in ("sm_80", "sm_90")}
    monkeypatch.setattr(_nvrtc, "version", lambda: "99.0")
    names.add(_cubin._key(_cubin.options_of(BUILD, "sm_80")))
    other = {name: text + " " for name, text in sources().items()}
    monkeypatch.setattr(_cubin, "sources", lambda: other)
    names.add(_cubin._key(_cubin.options_of(BUILD, "sm_80")))
    assert len(names) == 4


def test_a_damaged_file_is_compiled_again(monkeypatch):
    compiled = []

    def compile_source(sources, options):
        compiled.append(options)
        return b"\x7fELF and machine code"

    monkeypatch.setattr(_nvrtc, "compile_source", compile_source)
    code = _cubin.cubin(BUILD, "sm_80")
    (kept,) = _cubin.folder().iterdir()
    whole = kept.read_bytes()
    damaged = [b"", b"not machine code", whole[:-1], whole[40:], whole[:9] + b"?" + whole[10:]]
    for times, damage in enumerate(damaged, 2):
        kept.write_bytes(damage)
        assert _cubin.cubin(BUILD, "sm_80") == code
        assert kept.read_bytes() == whole
        assert len(compiled) == times


def test_a_cache_that_cannot_be_written_does_not_matter(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TIDEGATE_CACHE", str(tmp_path / "file"))
    assert _cubin.cubin(BUILD, "sm_80").startswith(b"\x7fELF")


def test_a_launch_says_all_to_the_driver(driver):
    arguments = _arguments.Backward(coefficients=77)
    build = build_for("float32", 128, False)
    _launch.launch("gru_backward", DEVICE, build, arguments, time=9, batch=17, directions=2)
    shared = build.shared("gru_backward")
    assert f"cuFuncSetAttribute 8 {shared}" in driver()
    assert driver()[-1] == f"cuLaunchKernel 0x2000 3 2 1 256 1 1 {shared} 0x3000 77 (nil)"
    _launch.launch("gru_previous", DEVICE, build, arguments, time=9, batch=17, directions=2)
    assert driver()[-1] == "cuLaunchKernel 0x2000 9 2 2 256 1 1 0 0x3000 77 (nil)"


def test_each_device_has_its_own_kernels_and_stream(driver):
    for index in (0, 1, 0, 1):  # while the first is current
        device = torch.device("cuda", index)
        _launch.launch("gru_forward", device, BUILD, _arguments.Forward(x_gates=7), 1, 1, 1)
        launched = driver()[-1].split()
        assert launched[1] == f"0x200{index}"
        assert launched[9] == f"0x300{index}"
    assert sum(line.startswith("cuModuleLoadData") for line in driver()) == 2


def test_a_thread_that_torch_has_not_met_launches_too(driver):
    _launch.prepare(DEVICE, BUILD)
    refused = []

    def launch():
        try:
            _launch.launch("gru_forward", DEVICE, BUILD, _arguments.Forward(), 1, 1, 1)
        except _nvrtc.Unusable as reason:
            refused.append(reason)

    thread = threading.Thread(target=launch)
    thread.start()
    thread.join()
    assert not refused
    assert sum(line.startswith("cuDevicePrimaryCtxRetain") for line in driver()) == 1


def test_nothing_is_loaded_while_a_graph_is_captured(monkeypatch, driver):
    capturing = True
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: capturing)
    assert not _choice.is_usable(DEVICE, BUILD)
    assert not driver()
    capturing = False
    assert _choice.is_usable(DEVICE, BUILD)  # it was not given up
    capturing = True
    assert _choice.is_usable(DEVICE, BUILD)


def test_clusters_lie_side_by_side():
    build = build_for("float32", 200, True)
    assert build.cluster == 4
    assert _launch.grid("gru_forward", build, time=9, batch=17, directions=2) == ((12, 2, 1), 128)


def test_a_refused_launch_is_an_error_with_its_reason(monkeypatch, driver):
    _launch.prepare(DEVICE, BUILD)
    monkeypatch.setenv("TIDEGATE_TEST_FAIL", "cuLaunchKernel")
    reason = "cuLaunchKernel failed: too many resources requested for launch"
    with pytest.raises(_nvrtc.Unusable, match=reason):
        _launch.launch("gru_forward", DEVICE, BUILD, _arguments.Forward(), 1, 1, 1)


def test_a_device_that_cannot_is_said_once(monkeypatch, driver):
    monkeypatch.setenv("TIDEGATE_TEST_FAIL", "cuModuleLoadData")
    with pytest.warns(RuntimeWarning, match=r"cannot run on cuda:0: cuModuleLoadData failed"):
        assert not _choice.is_usable(DEVICE, BUILD)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not _choice.is_usable(DEVICE, BUILD)
    assert sum("LoadData" in line for line in driver()) == 2  # as it was kept, then compiled anew


@pytest.mark.parametrize(
    ("capability", "kind", "hidden", "reason"),
    [
        ((7, 5), "bfloat16", 20, "they need compute capability 8.0"),
        ((8, 0), "bfloat16", 129, "129 units need compute capability 9.0"),
        ((9, 0), "float32", 256, "256 units of float32 need [0-9]+ bytes of shared memory"),
        ((8, 5), "bfloat16", 20, None),
        ((99, 0), "bfloat16", 20, "does not know compute capability 99.0"),
    ],
)
def test_a_device_must_have_what_a_build_needs(
    monkeypatch, driver, capability, kind, hidden, reason
):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capability)
    build = build_for(kind, hidden, False)
    if reason is None:  # runs what was compiled for 8.0
        assert _choice.is_usable(DEVICE, build)
        return
    with pytest.warns(RuntimeWarning, match=reason):
        assert not _choice.is_usable(DEVICE, build)


def test_source_that_is_refused_names_its_first_error():
    with pytest.raises(_nvrtc.Unusable, match=r"NVRTC does not compile them .*error"):
        _nvrtc.compile_source({"a.cu": "__global__ void kernel() { nonsense; }"}, [])


def test_without_a_compiler_or_a_driver_the_reason_is_said(monkeypatch):
    monkeypatch.setattr(_nvrtc, "_candidates", lambda: iter(["libnvrtc-of-nobody.so"]))
    with pytest.raises(_nvrtc.Unusable, match="no NVRTC was found"):
        _nvrtc.library.__wrapped__()
