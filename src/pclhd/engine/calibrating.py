"""The end of a training: what similarities of the final model mean, learnt from pseudo labels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from pclhd.answers.calibration import Calibration
from pclhd.answers.fit import Labelled, fit_calibration
from pclhd.clustering.matching import match_clusters
from pclhd.clustering.pseudo_labels import cluster_centres
from pclhd.distributed.search import shared_search
from pclhd.engine.diagnosis import refuse_useless_embeddings
from pclhd.engine.epoch import embed_both
from pclhd.engine.labelling import EpochLabels, Features, LabelRequest, Labels
from pclhd.engine.session import Session
from pclhd.models.encoder import Encoder
from pclhd.pair import Pair


def measure_calibration(
    session: Session,
    encoder: Encoder,
    on_labelled: Callable[[Pair[Features], EpochLabels], None] = lambda features, labels: None,
) -> Calibration:
    """Calibrate the final model on the training images, labelled as at the beginning of an epoch.

    Nothing is drawn at random and no weight changes. Called in all processes.

    Args:
        session: Images, settings and labeller.
        encoder: The final model.
        on_labelled: Called in the first process with the embeddings, of unit length, and their labels.

    Returns:
        The calibration.

    Raises:
        UserError: A modality has no cluster, or the model gives no embeddings that could be compared.
    """
    settings, networks = session.settings, session.networks
    embeddings = embed_both(session, encoder.network)
    with networks.processes.raise_once():
        for name, part in embeddings.items():
            refuse_useless_embeddings(part, name)
    features = embeddings.map(_unit_length)
    cameras = session.images.map(lambda part: part.cameras)
    nearest = shared_search(networks.processes, networks.fabric.device)

    def label_and_fit() -> Calibration:
        request = LabelRequest(
            features, settings.clustering, settings.method, joint=False, cameras=cameras, nearest=nearest
        )
        found = session.labeller(request)
        on_labelled(features, found)
        labels = common_labels(features, found)
        return fit_calibration(
            Pair(*map(Labelled, features, labels, cameras)),
            model_id=encoder.model_id,
            source="pseudo labels" if settings.method.labels == "clusters" else "training identities",
        )

    threads = torch.get_num_threads()
    calibration = networks.processes.by_the_first(label_and_fit)
    torch.set_num_threads(threads)  # numba changes it
    return calibration


def common_labels(features: Pair[Features], labels: EpochLabels) -> Pair[Labels]:
    """One numbering of the clusters of both modalities: −1 is noise.

    Two clusters get one number if each is the other's nearest (ours). The matching of the training gives each cluster a
    partner, and many of those are wrong; wrong pairs would make unlike images look like evidence.

    Args:
        features: (Nv, D) and (Nr, D).
        labels: The clusters of each modality.
    """
    matching = match_clusters(*map(cluster_centres, features, labels.own), method="mutual")
    partners = matching.infrared_to_visible
    alone = len(matching.visible_to_infrared) + np.arange(len(partners))
    renamed = np.where(partners >= 0, partners, alone)
    infrared = np.where(labels.infrared >= 0, renamed[labels.infrared], -1)
    return Pair(labels.visible, infrared.astype(np.int64))


def _unit_length(features: torch.Tensor) -> Features:
    unit: Features = torch.nn.functional.normalize(features).numpy()
    return unit
