"""Trains the small models that the pages of the guide load: `python docs/build_models.py [NAME…]`.

A few minutes for all on one core. The network is the page's own.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from run import BLOCK
from safetensors.torch import save_file
from torch import nn

from tidegate._model_file import read_model, write_model
from tidegate.data.agreement import generate
from tidegate.language import LanguageModel
from tidegate.nn import GRU
from tidegate.train import Settings, train

DOCS = Path(__file__).parent
MODELS = DOCS / "models"
CELLS = {
    "rnn": lambda far: nn.RNN(32, 64, batch_first=True),
    "gru": lambda far: GRU(32, 64, batch_first=True),
    "chrono": lambda far: GRU(32, 64, batch_first=True, init="chrono", chrono_range=(2, far)),
}
AGREEMENT = {"rnn-31": 31, "gru-31": 31, "gru-168": 168, "chrono-168": 168, "gru-mixed": (3, 35)}
STEPS = {"chrono-168": 1000}  # of the others 3000


def agreement(name: str, distance: int | tuple[int, int]) -> None:
    page = (DOCS / "guide" / "long-sentence.md").read_text("utf-8")
    names: dict = {"print": lambda *_: None}
    exec(BLOCK.findall(page)[0][0], names)
    ids, plural = names["encode"](generate(8192, distance=distance, seed=1000))
    torch.manual_seed(0)
    network = names["Network"](CELLS[name.partition("-")[0]](distance))

    def loss(step: int) -> torch.Tensor:
        rows = torch.randint(len(ids), (64,), generator=torch.Generator().manual_seed(step))
        answers = plural[rows].float()
        return nn.functional.binary_cross_entropy_with_logits(network(ids[rows]), answers)

    train(network, loss, Settings(steps=STEPS.get(name, 3000), learning_rate=5e-3))
    weights = {key: value.half() for key, value in network.state_dict().items()}
    save_file(weights, MODELS / f"agreement-{name}.safetensors")
    tests = generate(500, distance=distance, attractors=1, seed=1)
    print(name, f"{names['accuracy'](network, tests):.1%}", flush=True)


def sentences() -> None:
    """The language model: ordinary sentences, short ones among them."""
    pairs = generate(20_000, distance=(3, 10), attractors=(0, 1), companions=(0, 1), seed=1)
    text = "".join(f"{pair.right}\n" for pair in pairs)
    model = LanguageModel(
        "words",
        hidden_size=96,
        lines=True,
        steps=3500,
        batch_size=48,
        context_length=25,
        dropout=0.0,
        learning_rate=6e-3,
    ).fit(text)
    whole, path = MODELS / "whole.safetensors", MODELS / "sentences.safetensors"
    model.save(whole)
    file = read_model(whole)
    write_model(path, file.kind, file.tensors, file.facts, narrow=file.narrow_as("bfloat16"))
    whole.unlink()
    print("sentences", f"perplexity {model.perplexity_:.2f}", flush=True)


def main(wanted: list[str]) -> None:
    MODELS.mkdir(exist_ok=True)
    for name, distance in AGREEMENT.items():
        if not wanted or name in wanted:
            agreement(name, distance)
    if not wanted or "sentences" in wanted:
        sentences()


if __name__ == "__main__":
    main(sys.argv[1:])
