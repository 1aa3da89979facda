"""Where in an image the last feature map is large."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pclhd.data.normalise import normalise
from pclhd.data.records import Modality
from pclhd.models.embed import evaluating
from pclhd.models.two_stream import TwoStreamNetwork


def activation_maps(network: TwoStreamNetwork, images: Tensor, modality: Modality) -> NDArray[np.float32]:
    """The length of the feature vector at each position of the last feature map.

    It shows which places contribute most to the embedding, not why. Common in the field (ours: no gradient is needed).

    Args:
        network: The encoder; it is not changed.
        images: (N, 3, H, W) uint8.
        modality: Modality of the images.

    Returns:
        (N, h, w), the largest value of each image is 1. With w of 1 if the network keeps no grid of positions.
    """
    device = next(network.parameters()).device
    with torch.inference_mode(), evaluating(network):
        batch = normalise(images.clone().to(device), network.image_mean, network.image_std)
        batch = batch.contiguous(memory_format=torch.channels_last)
        last = network.last_map(batch, None) if modality is Modality.VISIBLE else network.last_map(None, batch)
        lengths = last.float().norm(dim=1)
        largest = lengths.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)
        maps: NDArray[np.float32] = (lengths / largest).cpu().numpy()
    return maps
