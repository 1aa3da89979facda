"""Open an encoder with either library that can compute it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pclhd.errors import ArgumentError
from pclhd.models.encoder import Encoder, ImageEncoder
from pclhd.models.onnx_encoder import OnnxEncoder
from pclhd.runs.folder import RunFolder

Runtime = Literal["torch", "onnx"]


def open_encoder(source: Path | str | RunFolder, *, device: str = "auto", runtime: Runtime = "torch") -> ImageEncoder:
    """Open a run, a model file or an ONNX file.

    Args:
        source: A run folder, a model file, or an ``.onnx`` file of `pclhd export`, which needs no `runtime`.
        device: Device for torch. onnxruntime computes on the CPU.
        runtime: ``onnx`` takes the ONNX file in a run folder.

    Raises:
        UserError: There is no such file, it is damaged, or onnxruntime is not installed.
    """
    path = source.path if isinstance(source, RunFolder) else Path(source)
    if path.suffix.lower() == ".onnx":
        return OnnxEncoder(path)
    if runtime == "torch":
        return Encoder.load(path, device=device)
    if path.is_file():
        raise ArgumentError("runtime", f"{path} is no ONNX file; name one, or a run folder that has one", value=runtime)
    return OnnxEncoder(RunFolder(path).onnx_file)
