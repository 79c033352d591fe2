"""One training step: forward, backward, update. On cuda it can be replayed as one graph."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from texnet import kernels
from texnet.config import Acceleration
from texnet.errors import UsageError
from texnet.generators import Network
from texnet.gradients import image_gradient
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
        self.bf16, self.part = acceleration.precision == "bf16", acceleration.part
        self.layout = torch.channels_last if acceleration.channels_last else None
        self.graphed = acceleration.graph and self.device.type == "cuda"
        self.left = WARM_UP
        self.graph: torch.cuda.CUDAGraph | None = None
        self.static: list[Tensor] = []
        if acceleration.channels_last:
            kernels.channels_last(net)
        if acceleration.compile:
            objective.descriptor.compile()
            # On the CPU the compiled backward of replication padding is refused (PyTorch 2.13).
            if self.device.type == "cuda":
                net.compile()

    def __call__(self, content: Tensor | None, noise: Sequence[Tensor]) -> Tensor:
        if not self.graphed:
            if self.layout is not None and content is not None:
                content = content.contiguous(memory_format=self.layout)
            return self.step(content, noise)
        given = [*noise, *([] if content is None else [content])]
        if not self.static:  # one layout from the first step on, as the graph will have it
            self.static = [self._laid_out(each) for each in given]
        for mine, theirs in zip(self.static, given, strict=True):
            mine.copy_(theirs, non_blocking=True)
        kept = self.static[len(noise)] if content is not None else None
        if self.left:
            self.left -= 1
            with torch.cuda.stream(self._side_stream()):
                values = self.step(kept, self.static[: len(noise)])
            torch.cuda.current_stream().wait_stream(self.side)
            return values
        if self.graph is None:
            self.graph = self._capture(kept, self.static[: len(noise)])
        self.graph.replay()
        return self.values.clone()

    def _laid_out(self, given: Tensor) -> Tensor:
        """Memory for a tensor like ``given``, which may be one image expanded to a batch."""
        layout = self.layout if self.layout and given.ndim == 4 else torch.contiguous_format
        return torch.empty(given.shape, dtype=given.dtype, device=given.device).contiguous(
            memory_format=layout
        )

    def step(self, content: Tensor | None, noise: Sequence[Tensor]) -> Tensor:
        """The step itself, launched kernel by kernel."""
        self.adam.zero_grad(set_to_none=True)
        return self._forward_and_back(content, noise)

    def _forward_and_back(self, content: Tensor | None, noise: Sequence[Tensor]) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            images = self.net.train()(content, noise)
        images = images.float()
        terms, gradient = image_gradient(self.objective, images, content, self.part)
        images.backward(gradient)
        self.adam.step()
        values = [terms.total.mean(), *(getattr(terms, name).mean() for name in TERMS)]
        return torch.stack(values)

    def _side_stream(self) -> torch.cuda.Stream:
        """Where the steps before the capture run, as PyTorch wants it."""
        if self.left == WARM_UP - 1:
            self.side = torch.cuda.Stream()
        self.side.wait_stream(torch.cuda.current_stream())
        return self.side

    def _capture(self, content: Tensor | None, noise: Sequence[Tensor]) -> torch.cuda.CUDAGraph:
        """Record the step on tensors that stay; nothing is computed yet."""
        self.adam.zero_grad(set_to_none=True)  # the graph's own gradients, overwritten each time
        graph = torch.cuda.CUDAGraph()
        # The threads that load batches may go on allocating.
        try:
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self.values = self._forward_and_back(content, noise)
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            raise UsageError(
                f"acceleration.graph: this step cannot be recorded as a CUDA graph ({reason}); "
                "set it to false"
            ) from error
        return graph


def optimiser(net: Network, lr: float, acceleration: Acceleration) -> torch.optim.Adam:
    """Adam in one kernel; for a graph with its rate and step count on the device."""
    device = next(net.parameters()).device
    if acceleration.graph and device.type == "cuda":
        rate = torch.tensor(lr, device=device)
        return torch.optim.Adam(net.parameters(), lr=rate, fused=True, capturable=True)
    return torch.optim.Adam(net.parameters(), lr=lr, fused=True)
