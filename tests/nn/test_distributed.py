"""Two processes that average their gradients train as one would on both their batches."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

CODE = """
import sys
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from tidegate.nn import GRU

def train(gru, x, steps=3):
    optimiser = torch.optim.SGD(gru.parameters(), 0.5)
    for _ in range(steps):
        optimiser.zero_grad()
        gru(x)[0].square().mean().backward()
        optimiser.step()

torch.set_num_threads(1)
rank, file = int(sys.argv[1]), sys.argv[2]
torch.manual_seed(0)
x, alone, together = torch.randn(6, 4, 3), GRU(3, 5, 2), GRU(3, 5, 2)
together.load_state_dict(alone.state_dict())
dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
train(DistributedDataParallel(together), x[:, 2 * rank : 2 * rank + 2])
train(alone, x)
for one, other in zip(together.parameters(), alone.parameters(), strict=True):
    torch.testing.assert_close(one, other)
dist.destroy_process_group()
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch has no distributed")
def test_data_parallel_training_is_training(tmp_path: Path):
    paths = f"import sys; sys.path[:0] = {sys.path}\n"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", paths + CODE, str(rank), str(tmp_path / "store")],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
