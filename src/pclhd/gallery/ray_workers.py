"""Embed many images with the workers of a Ray cluster (ours): Ray Data hands out parts, and each becomes a file.

The coordinator lists the images, waits until every part has its file, and adds all rows in one commit. Where a worker
is killed, Ray starts another, which does the part again; a part is one file, so nothing is there twice.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pclhd.errors import ArgumentError, UserError
from pclhd.gallery.adding import NewImage, parts_of
from pclhd.gallery.parts import add_parts, part_file, plan_of, write_part
from pclhd.gallery.places import Folder
from pclhd.gallery.records import Added, Keep
from pclhd.gallery.store import Store
from pclhd.models.encoder import Encoder

# A part that ends its worker this often, and once more, is not tried again: it may need more memory than there is.
_RETRIES = 3


def load_ray() -> Any:
    """The optional package for several machines.

    Raises:
        UserError: It is not installed.
    """
    # Ray reports to its makers which of its parts are used, unless this is set.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UserError("several workers need Ray; install it with: pip install 'ray[data]'") from error
    return ray


class EmbedParts:
    """A worker: it loads the model once, and writes the file of each part that Ray Data hands to it.

    Args:
        gallery: The gallery's folder or address.
        folder: Where the files go; the folders must be the same for all machines.
        model: The model file.
        model_id: Id that the model must have.
        keep: What is kept of each image.
        device: Where it embeds.
    """

    def __init__(self, gallery: str, folder: Path, model: Path, model_id: str, keep: Keep, device: str) -> None:
        self._gallery, self._folder, self._model, self._model_id = gallery, folder, model, model_id
        self._keep, self._device = keep, device
        self._opened: tuple[Store, Encoder] | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Do one part.

        Args:
            batch: One row: ``part``, its number, and ``images``.

        Returns:
            One row: how many ``images``, and the ``error`` of a user, empty if there is none. An exception would reach
            the coordinator as one of Ray's.
        """
        (number,), (images,) = batch["part"], batch["images"]
        error = ""
        try:
            store, encoder = self._opened or self._open()
            write_part(part_file(self._folder, int(number)), store, encoder, list(images), keep=self._keep)
        except UserError as found:
            error = str(found)
        return {"images": [len(images)], "error": [error]}

    def _open(self) -> tuple[Store, Encoder]:
        import torch

        torch.set_num_threads(1)
        encoder = Encoder.load(self._model, device=self._device)
        if encoder.model_id != self._model_id:
            raise UserError(f"{self._model}: is another model on a worker's machine; give all the same file")
        self._opened = Store(self._gallery), encoder
        return self._opened


def add_with_ray(
    store: Store,
    encoder: Encoder,
    images: Sequence[NewImage],
    *,
    keep: Keep,
    workers: int,
    device: str = "auto",
    parts_in: Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Added:
    """Add images to a gallery that the caller is writing to: embedded by Ray workers, added in one commit.

    The cluster is the one that this process is connected to, or that ``RAY_ADDRESS`` names; otherwise one is started
    on this machine. All machines must see gallery, images and model at the same paths.

    If it is interrupted, nothing has been added, and the same call uses the parts that were embedded.

    Args:
        store: The gallery.
        encoder: Its encoder, loaded from a file.
        images: The images, which must be files.
        keep: What is kept of each.
        workers: Number of workers; each uses one thread, or one GPU.
        device: Where they embed; with ``auto``, on GPUs if the cluster has as many.
        parts_in: Folder for what the workers write; None takes the gallery's.
        on_progress: Called with the number of images done and of all.

    Returns:
        The counts.

    Raises:
        UserError: Ray is not installed, an image or the model is no file, the cluster is too small, or a worker failed.
    """
    ray = load_ray()
    if encoder.origin is None:
        raise ArgumentError("encoder", "was not loaded from a file, which Ray workers need; give a run or model file")
    if any(image.source.path is None or image.source.content is not None for image in images):
        raise ArgumentError("images", "are in memory, which Ray workers do not see; give files, or no `ray_workers`")
    parts = list(parts_of(images))
    plan = plan_of(parts, model_id=encoder.model_id, keep=keep)
    with store.collecting(plan, parts_in) as folder:
        files = [part_file(folder, number) for number in range(len(parts))]
        left = [number for number, file in enumerate(files) if not file.exists()]
        done = len(images) - sum(len(parts[number]) for number in left)
        if left:
            given = (
                _seen_by_all(store), folder.absolute(), encoder.origin.absolute(), encoder.model_id, keep, device,
            )  # fmt: skip
            workers = min(workers, len(left))
            with _connected(ray, workers), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of Ray about its own options
                rows = [{"part": number, "images": parts[number]} for number in left]
                for embedded in _embedded(ray, rows, given, workers, device):
                    done += embedded
                    if on_progress is not None:
                        on_progress(done, len(images))
        return add_parts(store, files)


def _seen_by_all(store: Store) -> str:
    """What opens the gallery in another process."""
    place = store.place
    return str(place.path.absolute()) if isinstance(place, Folder) else place.address


def _embedded(ray: Any, rows: list[dict[str, Any]], given: tuple[Any, ...], workers: int, device: str) -> Iterator[int]:
    """Have parts embedded; gives the number of images of each as it is done."""
    resources = ray.cluster_resources()
    on_gpus = device != "cpu" and (device != "auto" or resources.get("GPU", 0) >= workers)
    kind = "GPU" if on_gpus else "CPU"
    if resources.get(kind, 0) < workers:
        raise ArgumentError(
            "ray_workers", f"the cluster has {resources.get(kind, 0):g} {kind}s, and each worker needs one; ask for "
            "fewer, or add machines", value=workers,
        )  # fmt: skip
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    found = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        EmbedParts,
        fn_constructor_args=given,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=1),
        num_cpus=None if on_gpus else 1,
        num_gpus=1 if on_gpus else None,
        max_restarts=-1,
        max_task_retries=_RETRIES,
    )
    try:
        for row in found.iter_rows():
            if row["error"]:
                raise UserError(row["error"])
            yield row["images"]
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()
        raise UserError(
            f"a Ray worker failed ({reason[-1] if reason else type(error).__name__}); parts that were embedded are "
            "kept, and the same command continues"
        ) from error


@contextmanager
def _connected(ray: Any, workers: int) -> Iterator[None]:
    """Connect to the cluster; one that is started here ends with the block.

    Raises:
        UserError: There is no cluster at ``RAY_ADDRESS``.
    """
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS")
    own = {"num_cpus": workers, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    try:
        with warnings.catch_warnings():
            # LanceDB warns of forks; the processes that Ray forks become other programs at once.
            warnings.simplefilter("ignore")
            ray.init(
                address=address or "local", log_to_driver=False, logging_level="ERROR", **({} if address else own)
            )  # fmt: skip
    except (ConnectionError, RuntimeError, ValueError) as error:
        place = f"at RAY_ADDRESS={address}" if address else "on this machine"
        raise UserError(f"no Ray cluster {place} ({error}); start one with: ray start --head") from error
    try:
        yield
    finally:
        ray.shutdown()
