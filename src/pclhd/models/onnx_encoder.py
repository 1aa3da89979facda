"""An encoder from an ONNX file of `pclhd export`, computed by onnxruntime; torch computes nothing in it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from pclhd.data.records import Modality
from pclhd.errors import UserError
from pclhd.models.encoder import ImageEncoder
from pclhd.models.preprocessing import Preprocessing
from pclhd.parsing import parse_json

#: Name of the entry in the file's metadata that holds `OnnxFacts`.
HEADER = "pclhd"

_BATCH = 64


@dataclass(frozen=True)
class OnnxFacts:
    """What an ONNX file says about itself.

    Attributes:
        model_id: Id of the encoder; that of the torch model in single precision, because the embeddings are the same.
        source_id: Id of the torch model.
        preprocessing: Its preprocessing.
        embedding_size: Width of the embeddings.
        precision: ``float32`` or ``int8``.
    """

    model_id: str
    source_id: str
    preprocessing: Preprocessing
    embedding_size: int
    precision: Literal["float32", "int8"]

    def to_dict(self) -> dict[str, Any]:
        """The facts in JSON-compatible form."""
        return {**vars(self), "preprocessing": self.preprocessing.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> OnnxFacts:
        """Read the result of `to_dict`.

        Raises:
            ValueError: A value is missing or impossible.
        """
        try:
            texts = [values["model_id"], values["source_id"], values["precision"]]
            size = values["embedding_size"]
            preprocessing = Preprocessing.from_dict(values["preprocessing"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"{error} is missing or of another kind") from error
        if not all(isinstance(one, str) for one in texts) or texts[2] not in ("float32", "int8"):
            raise ValueError("ids or precision are of another kind")
        if type(size) is not int or size < 1:
            raise ValueError(f"embedding_size is {size!r}")
        return cls(texts[0], texts[1], preprocessing, size, cast(Any, texts[2]))


class OnnxEncoder(ImageEncoder):
    """An encoder that onnxruntime computes on the CPU.

    Args:
        path: An ONNX file of `pclhd export`.

    Raises:
        UserError: onnxruntime is not installed, there is no such file, or it is damaged or another program's.
    """

    def __init__(self, path: Path) -> None:
        runtime = require_onnxruntime()
        if not path.is_file():
            raise UserError(f"{path}: no such ONNX file; make it with: pclhd export RUN --format onnx --out {path}")
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        try:
            self._session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions have no common public class
            reason = " ".join(str(error).split())[:160]
            raise UserError(f"{path}: is not a readable ONNX file ({reason}); export it again") from error
        try:
            self.facts = OnnxFacts.from_dict(parse_json(self._session.get_modelmeta().custom_metadata_map[HEADER]))
        except (KeyError, ValueError) as error:
            raise UserError(
                f"{path}: was not written by pclhd export, so its preprocessing is unknown ({error})"
            ) from error
        self.preprocessing = self.facts.preprocessing
        self.origin = path

    @property
    def embedding_size(self) -> int:
        """The width D of the embeddings."""
        return self.facts.embedding_size

    @property
    def model_id(self) -> str:
        """Id of the encoder; in single precision that of the torch model, whose embeddings are comparable."""
        return self.facts.model_id

    def embed_pixels(self, pixels: NDArray[np.uint8], modality: Modality) -> NDArray[np.float32]:
        """As `pclhd.models.encoder.Encoder.embed_pixels`."""
        features = np.empty((len(pixels), self.embedding_size), dtype=np.float32)
        for start in range(0, len(pixels), _BATCH):
            part = np.ascontiguousarray(pixels[start : start + _BATCH].transpose(0, 2, 3, 1))
            infrared = np.full(len(part), modality is Modality.INFRARED)
            (features[start : start + len(part)],) = self._session.run(
                ["embedding"], {"images": part, "infrared": infrared}
            )
        return features


def int8_id(model_id: str) -> str:
    """The id of the 8-bit version of an encoder: its embeddings are not comparable with those of the original."""
    return hashlib.sha256(f"{model_id} int8".encode()).hexdigest()


def require_onnxruntime() -> Any:
    """The optional package that computes ONNX files.

    Raises:
        UserError: It is not installed.
    """
    # Else it reports its use to its maker (1.32 does on Linux, too), and warns where there is no home for its id.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError("ONNX files need onnxruntime; install it with: pip install onnxruntime") from error
    return onnxruntime
