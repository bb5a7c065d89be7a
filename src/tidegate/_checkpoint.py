"""The state of a training run in one safetensors file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ._files import replacing
from ._tensors import order_metadata, under
from .errors import InputError

_FORMAT = "tidegate.checkpoint/1"


def save_checkpoint(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    best: dict[str, Tensor],
    facts: dict[str, Any],
) -> None:
    """Write everything that the next step depends on; `facts` are what JSON can hold of it."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in best.items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": tensor for name, tensor in state.items()}
    tensors |= {f"random.{name}": state for name, state in _random_states(model).items()}
    # Copies, because safetensors refuses tensors that share memory, such as tied weights.
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with replacing(path) as file:
        save_file(copies, file, {"format": _FORMAT, "facts": json.dumps(facts)})
        order_metadata(file)


def load_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, expected: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Bring model, optimiser and random state back; return the facts and the best weights so far.

    Raises:
        InputError: the file is damaged, or its facts are not the `expected` ones.
    """
    tensors, facts = _read(path)
    for name, value in expected.items():
        if facts.get(name) != value:
            raise InputError(
                f"{path} belongs to a run with other {name}{_differences(facts.get(name), value)}"
            )
    try:
        model.load_state_dict(under("model.", tensors))
    except RuntimeError:
        raise InputError(f"{path} belongs to a run of another model") from None
    optimizer.load_state_dict(
        {
            "state": _optimizer_state(under("optimizer.", tensors)),
            "param_groups": optimizer.state_dict()["param_groups"],
        }
    )
    _set_random_states(under("random.", tensors))
    return facts, under("best.", tensors)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise InputError(f"{path} is not a checkpoint of a training run")
            return {name: file.get_tensor(name) for name in file.keys()}, json.loads(  # noqa: SIM118
                metadata["facts"]
            )
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise InputError(f"{path} cannot be read as a checkpoint: {error}") from None


def _optimizer_state(tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, _, key = name.partition(".")
        state.setdefault(int(number), {})[key] = tensor
    return state


def _random_states(model: nn.Module) -> dict[str, Tensor]:
    devices = {
        str(p.device): torch.cuda.get_rng_state(p.device) for p in model.parameters() if p.is_cuda
    }
    return {"cpu": torch.get_rng_state(), **devices}


def _set_random_states(states: dict[str, Tensor]) -> None:
    torch.set_rng_state(states.pop("cpu"))
    for device, state in states.items():
        torch.cuda.set_rng_state(state, device)


def _differences(was: Any, now: Any) -> str:
    if not isinstance(was, dict):
        return ""
    names = [name for name in now if was.get(name) != now[name]]
    return ": " + ", ".join(f"{name} was {was.get(name)!r} and is {now[name]!r}" for name in names)
