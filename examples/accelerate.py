"""Other people's models, made faster without touching them.

    pip install neuralforecast darts deepctr-torch   # any of them
    python examples/accelerate.py

Each model is built as its package builds it, run, accelerated in place, and run again: one line
says how far its outputs and gradients moved and how much faster it became.
"""

import logging
import statistics
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from tidegate.nn import accelerate

Run = Callable[[], Tensor]


def neuralforecast() -> tuple[nn.Module, Run]:
    """Its GRU: 128 windows of 24 months, two layers of 64 units."""
    from neuralforecast.models import GRU

    model = GRU(h=18, input_size=24, encoder_hidden_size=64, encoder_n_layers=2)
    windows = {"insample_y": torch.randn(128, 24, 1)}
    windows |= dict.fromkeys(["futr_exog", "hist_exog", "stat_exog", "insample_mask"])
    return model, lambda: model(windows)


def darts() -> tuple[nn.Module, Run]:
    """Its RNNModel with a GRU: 128 windows of 48 steps, two layers of 64 units."""
    import numpy as np
    from darts import TimeSeries
    from darts.models import RNNModel

    quiet = {"enable_progress_bar": False, "logger": False, "enable_model_summary": False}
    outer = RNNModel(
        input_chunk_length=24,
        training_length=48,
        model="GRU",
        hidden_dim=64,
        n_rnn_layers=2,
        n_epochs=0,
        pl_trainer_kwargs=quiet | {"accelerator": "cpu", "enable_checkpointing": False},
    )
    outer.fit(TimeSeries.from_values(np.random.default_rng(0).normal(size=(100, 1))))
    model = outer.model
    x = torch.randn(128, 48, 1, dtype=next(model.parameters()).dtype)
    try:
        from darts.utils.data.torch_datasets.utils import ModuleStage, PLModuleInput
    except ImportError:  # before Darts 0.48
        return model, lambda: model((x, None, None))[0]
    batch = PLModuleInput(x, stage=ModuleStage.TRAIN)
    return model, lambda: model(batch).prediction


def deepctr() -> tuple[nn.Module, Run]:
    """DIEN's interest extractor: packed click histories of 256 users, up to 50 clicks."""
    from deepctr_torch.models.dien import InterestExtractor

    model = InterestExtractor(input_size=32)
    clicks, lengths = torch.randn(256, 50, 32), torch.randint(1, 51, (256,))
    return model, lambda: model(clicks, lengths)[0]


def results(model: nn.Module, run: Run) -> list[Tensor]:
    """Output and gradients, with the same random numbers each time."""
    torch.manual_seed(0)
    model.zero_grad()
    output = run()
    output.square().mean().backward()
    return [output.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


def milliseconds(work: Callable[[], object], repeats: int = 30) -> float:
    """Median time of a call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def show(name: str, build: Callable[[], tuple[nn.Module, Run]]) -> None:
    """Accelerate one model and print what that did."""
    torch.manual_seed(0)
    model, run = build()
    model.train()

    def measure() -> tuple[list[Tensor], float, float]:
        with torch.no_grad():
            forward = milliseconds(run)
        return results(model, run), forward, milliseconds(lambda: results(model, run))

    before, *old = measure()
    done = accelerate(model)
    after, *new = measure()
    moved = max((a - b).abs().max().item() for a, b in zip(after, before, strict=True))
    print(f"\n{name}\n  {str(done).replace(chr(10), chr(10) + '  ')}")
    print(f"  outputs and gradients moved by {moved:.1e} at most")
    for what, slow, fast in zip(("forward", "training step"), old, new, strict=True):
        print(f"  {what}: {slow:.2f} ms, now {fast:.2f} ms: {slow / fast:.1f} times faster")


def main() -> None:
    """Show every model whose package is installed."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    for name, build in {
        "neuralforecast.models.GRU": neuralforecast,
        "darts.models.RNNModel('GRU')": darts,
        "deepctr_torch DIEN": deepctr,
    }.items():
        try:
            show(name, build)
        except ModuleNotFoundError as missing:
            print(f"\n{name}: skipped, {missing.name} is not installed")


if __name__ == "__main__":
    main()
