"""One training step: forward, backward, update. On cuda it can be replayed as one graph."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from texnet.config import Acceleration
from texnet.generators import Network
from texnet.losses import Objective

TERMS = ("texture", "content", "tv", "diversity")
WARM_UP = 3
"""Steps before a graph is captured: libraries choose their algorithms in the first ones."""


class Update:
    """``update(content, noise)`` makes one step and returns the loss and its ``TERMS``, (5,).

    A step launches some thousand kernels, most of them over before the next one is launched; as a
    CUDA graph they are launched at once. Nothing here waits for the device.

    Args:
        net: the generator, whose weights are changed.
        objective: what is minimised.
        adam: of the generator's weights, as :func:`optimiser` makes it.
        acceleration: how the step is computed.
    """

    def __init__(
        self,
        net: Network,
        objective: Objective,
        adam: torch.optim.Optimizer,
        acceleration: Acceleration,
    ) -> None:
        self.net, self.objective, self.adam = net, objective, adam
        self.device = next(net.parameters()).device
        self.bf16 = acceleration.precision == "bf16"
        self.layout = torch.channels_last if acceleration.channels_last else None
        self.graphed = acceleration.graph and self.device.type == "cuda"
        self.left = WARM_UP
        self.graph: torch.cuda.CUDAGraph | None = None
        if acceleration.channels_last:
            net.to(memory_format=torch.channels_last)
        if acceleration.compile:
            objective.descriptor.compile()
            # On the CPU the compiled backward of replication padding is refused (PyTorch 2.13).
            if self.device.type == "cuda":
                net.compile()

    def __call__(self, content: Tensor | None, noise: Sequence[Tensor]) -> Tensor:
        if self.layout is not None and content is not None:
            content = content.contiguous(memory_format=self.layout)
        if not self.graphed:
            return self.step(content, noise)
        if self.left:
            self.left -= 1
            with torch.cuda.stream(self._side_stream()):
                values = self.step(content, noise)
            torch.cuda.current_stream().wait_stream(self.side)
            return values
        if self.graph is None:
            self._capture(content, noise)
        if content is not None:
            self.content.copy_(content, non_blocking=True)
        for static, given in zip(self.noise, noise, strict=True):
            static.copy_(given, non_blocking=True)
        self.graph.replay()
        return self.values.clone()

    def step(self, content: Tensor | None, noise: Sequence[Tensor]) -> Tensor:
        """The step itself, launched kernel by kernel."""
        self.adam.zero_grad(set_to_none=True)
        return self._forward_and_back(content, noise)

    def _forward_and_back(self, content: Tensor | None, noise: Sequence[Tensor]) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            images = self.net.train()(content, noise)
        terms = self.objective(images.float(), self.objective.content_targets(content))
        loss = terms.total.mean()
        loss.backward()
        self.adam.step()
        return torch.stack([loss, *(getattr(terms, name).mean() for name in TERMS)]).detach()

    def _side_stream(self) -> torch.cuda.Stream:
        """Where the steps before the capture run, as PyTorch wants it."""
        if self.left == WARM_UP - 1:
            self.side = torch.cuda.Stream()
        self.side.wait_stream(torch.cuda.current_stream())
        return self.side

    def _capture(self, content: Tensor | None, noise: Sequence[Tensor]) -> None:
        """Record the step on tensors that stay; nothing is computed yet."""
        self.content = None if content is None else content.clone()
        self.noise = [z.clone() for z in noise]
        self.adam.zero_grad(set_to_none=True)  # the graph's own gradients, overwritten each time
        self.graph = torch.cuda.CUDAGraph()
        # The threads that load batches may go on allocating.
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            self.values = self._forward_and_back(self.content, self.noise)


def optimiser(net: Network, lr: float, acceleration: Acceleration) -> torch.optim.Adam:
    """Adam in one kernel; for a graph with its rate and step count on the device."""
    device = next(net.parameters()).device
    if acceleration.graph and device.type == "cuda":
        rate = torch.tensor(lr, device=device)
        return torch.optim.Adam(net.parameters(), lr=rate, fused=True, capturable=True)
    return torch.optim.Adam(net.parameters(), lr=lr, fused=True)
