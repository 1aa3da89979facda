"""Write a network as an ONNX file: bytes of images in, unit-length embeddings out, both modalities in one graph."""

from __future__ import annotations

import copy
import io
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pclhd.data.normalise import normalise
from pclhd.data.records import Modality
from pclhd.errors import UserError
from pclhd.models.encoder import Encoder
from pclhd.models.onnx_encoder import HEADER, OnnxFacts, int8_id, require_onnxruntime
from pclhd.models.preprocessing import Preprocessing
from pclhd.models.two_stream import TwoStreamNetwork

_OPSET = 18
_BATCH = 16


class ExportedNetwork(nn.Module):
    """What the ONNX file computes.

    Args:
        network: The network; it is copied.
        preprocessing: Its preprocessing. Normalisation and mirror averaging become part of the graph; resizing does
            not, since ONNX has no Lanczos filter.
    """

    def __init__(self, network: TwoStreamNetwork, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).cpu().float().eval()
        self.stem = _MixedStem(self.network.visible_stem, self.network.infrared_stem)
        self.network.visible_stem = cast(Any, self.stem)
        self.preprocessing = preprocessing

    def forward(self, images: Tensor, infrared: Tensor) -> Tensor:
        """Embed images.

        Args:
            images: (N, H, W, 3) uint8, red, green, blue.
            infrared: (N,) bool, True where an image is infrared.

        Returns:
            (N, D) float32 of unit length.
        """
        wanted = self.preprocessing
        pixels = normalise(images.permute(0, 3, 1, 2), wanted.mean, wanted.std)
        unit = self._unit(pixels, infrared)
        if wanted.mirror:
            unit = functional.normalize((unit + self._unit(pixels.flip(3), infrared)) / 2)
        return unit

    def _unit(self, pixels: Tensor, infrared: Tensor) -> Tensor:
        self.stem.infrared_rows = infrared
        return functional.normalize(self.network(pixels, None).embedding)


class _MixedStem(nn.Module):
    """Both stems; each row takes the result of the one of its modality. Stems are a small part of a network."""

    def __init__(self, visible: nn.Module, infrared: nn.Module) -> None:
        super().__init__()
        self.visible, self.infrared = visible, infrared
        self.infrared_rows = torch.zeros(0, dtype=torch.bool)

    def forward(self, images: Tensor, **options: Any) -> Any:
        return self._choose(self.infrared(images, **options), self.visible(images, **options))

    def _choose(self, infrared: Any, visible: Any) -> Any:
        if isinstance(visible, tuple):  # such as Swin's features with the size of their map
            return tuple(map(self._choose, infrared, visible))
        if not isinstance(visible, Tensor):
            return visible
        return torch.where(self.infrared_rows.view(-1, *[1] * (visible.dim() - 1)), infrared, visible)


def onnx_bytes(encoder: Encoder) -> bytes:
    """The ONNX file of an encoder, in single precision.

    Raises:
        UserError: The packages for it are missing, or the network cannot be expressed in ONNX.
    """
    onnx = require_onnx()
    network = ExportedNetwork(encoder.network, encoder.preprocessing)
    height, width = encoder.preprocessing.height, encoder.preprocessing.width
    images = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    infrared = torch.tensor([False, True])
    batch = torch.export.Dim("batch", min=1, max=1 << 20)
    with warnings.catch_warnings(), _quiet("torch.onnx", "onnxscript", "onnx_ir"), torch.inference_mode():
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                network,
                (images, infrared),
                dynamo=True,
                opset_version=_OPSET,
                input_names=["images", "infrared"],
                output_names=["embedding"],
                dynamic_shapes={"images": {0: batch}, "infrared": {0: batch}},
                external_data=False,
                verbose=False,
            )
        except Exception as error:  # the exporter raises many kinds
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{encoder.origin}: this network cannot be written as ONNX ({reason})") from error
    if program is None:
        raise UserError(f"{encoder.origin}: this network cannot be written as ONNX; use the torch model")
    model = program.model_proto
    facts = OnnxFacts(encoder.model_id, encoder.model_id, encoder.preprocessing, encoder.embedding_size, "float32")
    return _with_facts(onnx, model, facts)


def int8_bytes(model: bytes, encoder: Encoder, crops: Sequence[tuple[Modality, NDArray[np.uint8]]]) -> bytes:
    """The same graph with the weights and activations of convolutions and linear layers as 8-bit integers.

    Static quantisation by onnxruntime; the ranges of the activations are those on the given images.

    Args:
        model: What `onnx_bytes` returned.
        encoder: The encoder.
        crops: Images (n, H, W, 3) of each modality.
    """
    onnx = require_onnx()
    require_onnxruntime()
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = _batches(crops)

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            return next(self.batches, None)

    with TemporaryDirectory(prefix="pclhd-") as folder, _quiet(""):
        source, prepared, target = (Path(folder) / name for name in ("a.onnx", "b.onnx", "c.onnx"))
        source.write_bytes(model)
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(target),
            Reader(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["Conv", "Gemm", "MatMul"],
        )
        quantised = onnx.load_from_string(target.read_bytes())
    name = int8_id(encoder.model_id)
    facts = OnnxFacts(name, encoder.model_id, encoder.preprocessing, encoder.embedding_size, "int8")
    return _with_facts(onnx, quantised, facts)


def require_onnx() -> Any:
    """The optional packages that write ONNX.

    Raises:
        UserError: One is not installed.
    """
    require_onnxruntime()
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"writing ONNX needs {error.name}; install it with: pip install onnx onnxruntime onnxscript"
        ) from error
    return onnx


def _with_facts(onnx: Any, model: Any, facts: OnnxFacts) -> bytes:
    del model.metadata_props[:]
    model.doc_string = ""
    onnx.helper.set_model_props(model, {HEADER: json.dumps(facts.to_dict(), sort_keys=True)})
    onnx.checker.check_model(model)
    target = io.BytesIO()
    onnx.save(model, target)
    return target.getvalue()


def _batches(crops: Sequence[tuple[Modality, NDArray[np.uint8]]]) -> Iterator[dict[str, NDArray[Any]]]:
    for modality, images in crops:
        for start in range(0, len(images), _BATCH):
            part = images[start : start + _BATCH]
            yield {"images": part, "infrared": np.full(len(part), modality is Modality.INFRARED)}


class _quiet:
    """A block in which loggers say nothing below an error."""

    def __init__(self, *names: str) -> None:
        self.loggers = [logging.getLogger(name) for name in names]

    def __enter__(self) -> None:
        self.levels = [logger.level for logger in self.loggers]
        for logger in self.loggers:
            logger.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        for logger, level in zip(self.loggers, self.levels, strict=True):
            logger.setLevel(level)
