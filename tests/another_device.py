"""A device of torch with the processor's numbers; what is computed there must lie there.

As a program: a forecaster that learns there is the one that learns on the processor.
"""

import torch
from torch.utils import backend_registration as devices
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

NAME = "another"
MOVES = torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default


class There(torch.Tensor):
    """A tensor on the device; the processor has its numbers in `here`."""

    @staticmethod
    def __new__(cls, here):
        shape = here.size(), here.stride(), here.storage_offset()
        there = torch.Tensor._make_wrapper_subclass(
            cls, *shape, dtype=here.dtype, device=f"{NAME}:0"
        )
        there.here = here
        return there

    @classmethod
    def __torch_dispatch__(cls, operator, types, args=(), kwargs=None):
        return compute(operator, args, kwargs or {})


class Another(TorchDispatchMode):
    """In which the device is there."""

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        return compute(operator, args, kwargs or {})


def compute(operator, args, kwargs):
    """By the processor, what is asked of one device."""
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
    there = {id(x.here): x for x in tensors if isinstance(x, There)}
    elsewhere = [x for x in tensors if not isinstance(x, There) and x.ndim]
    asked = kwargs.get("device")
    assert not (there and elsewhere) or operator in MOVES, f"{operator} of two devices"
    if asked is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    args, kwargs = tree_map_only(There, lambda x: x.here, (args, kwargs))
    found = operator(*args, **kwargs)
    if torch.device(asked).type != NAME if asked is not None else not there:
        return found
    # What an operator changes in place stays the tensor that it is.
    return tree_map_only(
        torch.Tensor, lambda x: there[id(x)] if id(x) in there else There(x), found
    )


if __name__ == "__main__":
    from folder_cases import many_series
    from forecast_cases import small_forecaster
    from tidegate.forecast._team import Alone
    from tidegate.nn import _gru

    # On a GPU torch's own kernels run, of which the processor has none.
    _gru._is_for_torch = lambda input: False
    # torch does not keep them, and needs them.
    kept = {"hook": devices._DummyPrivateUse1Hook(), "device_guard": devices._DummyDeviceGuard()}
    devices._setup_privateuseone_for_python_backend(NAME, **kept)
    here = small_forecaster(steps=16).fit(many_series())
    Alone.device = NAME
    with Another():
        there = small_forecaster(steps=16).fit(many_series())
    for name, tensor in here.networks_[0].state_dict().items():
        found = there.networks_[0].state_dict()[name]
        torch.testing.assert_close(found, tensor, rtol=1e-5, atol=1e-5)
    print("the same")
