"""The networks of a training and their optimiser: device, precision, compiler and processes."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision

from pclhd.config import Settings
from pclhd.data.records import Modality
from pclhd.devices import computes_bfloat16
from pclhd.distributed.batch_norm import synchronise_batch_norm
from pclhd.distributed.processes import Processes
from pclhd.engine.convolutions import share_convolutions
from pclhd.engine.diagnosis import explain_compiler
from pclhd.errors import UserError
from pclhd.models.backbones import build_network
from pclhd.models.embed import embed_images
from pclhd.models.momentum import MomentumNetwork
from pclhd.models.two_stream import TwoStreamNetwork, to_channels_last
from pclhd.models.weights import initialise
from pclhd.recipes import Recipe
from pclhd.streams import Streams

_AUTOCAST = {"32-true": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@dataclass
class Networks:
    """The networks and the optimiser of a training.

    Attributes:
        fabric: Lightning Fabric, for device and precision.
        online: The network that the optimiser trains.
        wrapped: The same network, wrapped by Fabric.
        optimiser: The optimiser of the current stage.
        momentum: The momentum network.
        processes: The processes that train together.
    """

    fabric: Fabric
    online: TwoStreamNetwork
    wrapped: Any
    optimiser: Any
    momentum: MomentumNetwork[TwoStreamNetwork]
    processes: Processes = field(default_factory=Processes)

    @property
    def loss_scale(self) -> dict[str, float]:
        """State of the loss scaling: the factor in the backward pass and its counters; empty except in 16-mixed."""
        return self.fabric.strategy.precision.state_dict()

    @loss_scale.setter
    def loss_scale(self, state: dict[str, float]) -> None:
        if state:
            self.fabric.strategy.precision.load_state_dict(state)

    def begin_stage(self, settings: Settings) -> None:
        """Create a new optimiser, as at the start of each stage (released code)."""
        self.wrapped.train()
        optimiser = torch.optim.Adam(
            [parameter for parameter in self.online.parameters() if parameter.requires_grad],
            lr=settings.schedule.learning_rate,
            weight_decay=settings.schedule.weight_decay,
            # Fused into one kernel on a GPU. On a CPU this is not faster.
            fused=True if self.fabric.device.type == "cuda" else None,
        )
        self.optimiser = self.fabric.setup_optimizers(optimiser)


def momentum_waits(recipe: Recipe, stage: int) -> bool:
    """Whether the momentum network is still a copy of the online network."""
    return stage == 1 and recipe.momentum_from == "stage2"


def resolve_precision(settings: Settings) -> Settings:
    """The settings with ``auto`` precision replaced by a precision that is fast on this machine."""
    if settings.engine.precision != "auto":
        return settings
    fast = computes_bfloat16(torch.device("cuda" if runs_on_gpu(settings) else "cpu"))
    engine = settings.engine.model_copy(update={"precision": "bf16-mixed" if fast else "32-true"})
    return settings.model_copy(update={"engine": engine})


def autocast_type(settings: Settings) -> torch.dtype | None:
    """The type that convolutions compute in while embedding; None for 32 bits."""
    return _AUTOCAST[_resolved(settings)]


def runs_on_gpu(settings: Settings) -> bool:
    """Whether training with these settings runs on a GPU on this machine."""
    return settings.engine.accelerator.startswith(("auto", "cuda")) and torch.cuda.is_available()


def make_networks(settings: Settings, processes: Processes) -> Networks:
    """Networks with initial weights on their device; `begin_stage` creates the optimiser.

    Args:
        settings: With a precision other than ``auto``.
        processes: The processes that train together.

    Raises:
        UserError: This machine does not have the accelerator, does not support the precision, or cannot compile.
    """
    engine = settings.engine
    # Fabric logs its precision on every start; the run's settings contain it already.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    try:
        # With several processes, each uses one device; `pclhd.distributed.processes` connects them.
        accelerator, _, index = engine.accelerator.partition(":")
        devices: list[int] | int = [int(index)] if index else 1
        if processes.count > 1 and runs_on_gpu(settings):
            devices = [processes.local_rank]
        fabric = Fabric(accelerator=accelerator, devices=devices, **_precision_for(settings))
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"engine.accelerator={engine.accelerator} with engine.precision={engine.precision} does not run on this "
            f"machine ({error}); try engine.accelerator=auto"
        ) from error
    fabric.launch()
    generator = Streams(settings.seed).torch("network")
    network = build_network(settings.model, generator=generator)
    initialise(network, settings.model.weights)
    if processes.count > 1:
        synchronise_batch_norm(network)
    to_channels_last(network, fabric.device)
    if not engine.compile:
        share_convolutions(network)
    _refuse_images_that_do_not_fit(network, settings)
    momentum = MomentumNetwork(network, buffers=settings.method.momentum_buffers)
    if engine.compile:
        _compile(network, momentum.network)
    return Networks(fabric, network, fabric.setup_module(network), None, momentum, processes)


def _refuse_images_that_do_not_fit(network: TwoStreamNetwork, settings: Settings) -> None:
    """Raise an error if the network cannot process the image size; some fail only when they get images."""
    height, width = settings.data.height, settings.data.width
    blank = torch.zeros(1, 3, height, width, dtype=torch.uint8)
    try:
        embed_images(network, blank, Modality.VISIBLE, flip=False, autocast_dtype=autocast_type(settings))
    except RuntimeError as error:
        raise UserError(
            f"images of {height} × {width} do not go through the network ({error}); raise data.height and data.width, "
            "or choose another model.backbone"
        ) from error


def _precision_for(settings: Settings) -> dict[str, Any]:
    precision = _resolved(settings)
    if precision == "16-mixed" and not runs_on_gpu(settings) and settings.engine.accelerator != "mps":
        # On a CPU, Fabric would silently use bfloat16 instead.
        return {"plugins": MixedPrecision("16-mixed", "cpu")}
    return {"precision": precision}


def _compile(*networks: TwoStreamNetwork) -> None:
    """Compile in place: names and types of weights do not change."""
    with explain_compiler():
        # Run once, so that a missing compiler is reported now, not after all images have been decoded and embedded.
        torch.compile(torch.sin)(torch.zeros(2))
    for network in networks:
        network.compile()


def _resolved(settings: Settings) -> Any:
    precision = settings.engine.precision
    if precision == "auto":
        raise ValueError("precision is still 'auto'; call resolve_precision first")
    return precision
