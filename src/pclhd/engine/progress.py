"""Progress of a training, saved in checkpoints and restored from them."""

from __future__ import annotations

from dataclasses import dataclass

from pclhd.engine.checkpoint import Checkpoint, optimiser_tensors, restore_optimiser
from pclhd.engine.diagnosis import first_not_finite
from pclhd.engine.labelling import Labels
from pclhd.engine.resuming import recorded_settings
from pclhd.engine.selection import Selection
from pclhd.engine.session import Session
from pclhd.engine.state import EpochState, assemble, dismantle
from pclhd.errors import UserError
from pclhd.pair import Pair

_LONGEST_REASON = 200


@dataclass
class Progress:
    """Everything that changes during a training, except its networks.

    Attributes:
        selection: The best epoch so far.
        next_epoch: The epoch to run next, or the epoch in progress.
        previous: Pseudo labels of the last epoch; None before the first.
        state: The epoch in progress; None between two epochs.
        restarts: Number of automatic restarts.
    """

    selection: Selection
    next_epoch: int = 0
    previous: Pair[Labels] | None = None
    state: EpochState | None = None
    restarts: int = 0

    def checkpoint(self, session: Session, data_checksum: str) -> Checkpoint:
        """The checkpoint of the current state.

        Args:
            session: Provides the networks and the optimiser.
            data_checksum: Checksum of the training set.
        """
        settings, networks = session.settings, session.networks
        begins_stage = self.next_epoch in (0, settings.schedule.numbers().stage1_epochs) and self.state is None
        redraws = settings.method.dynamic_redraw == "step"
        return Checkpoint(
            next_epoch=self.next_epoch,
            online=networks.online.state_dict(),
            momentum=networks.momentum.network.state_dict(),
            optimiser=None if begins_stage else optimiser_tensors(networks.optimiser),
            previous=self.previous,
            selection=self.selection,
            data_checksum=data_checksum,
            state=None if self.state is None else dismantle(self.state, redraws_each_step=redraws),
            restarts=self.restarts,
            loss_scale=networks.loss_scale,
            settings=recorded_settings(settings),
        )

    def restore(self, saved: Checkpoint, session: Session) -> None:
        """Restore a checkpoint, including the networks; the number of restarts does not change.

        Args:
            saved: A checkpoint of this training.
            session: Its networks and optimiser are changed.

        Raises:
            UserError: It is not of this training, or holds weights that are not finite.
        """
        try:
            self._restore(saved, session)
        except (RuntimeError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            reason = " ".join(str(error).split())[:_LONGEST_REASON]
            raise UserError(f"the checkpoint does not fit this run ({reason}); start a new training") from error
        for network in (session.networks.online, session.networks.momentum.network):
            broken = first_not_finite(network)
            if broken is not None:
                raise UserError(f"the checkpoint's weights are not finite (first {broken}); start a new training")

    def _restore(self, saved: Checkpoint, session: Session) -> None:
        networks = session.networks
        networks.online.load_state_dict(saved.online)
        networks.momentum.network.load_state_dict(saved.momentum)
        self.next_epoch, self.previous = saved.next_epoch, saved.previous
        self.selection = saved.selection
        networks.optimiser = None
        if saved.optimiser is not None:
            networks.begin_stage(session.settings)
            restore_optimiser(networks.optimiser, saved.optimiser)
        networks.loss_scale = saved.loss_scale
        self.state = None
        if saved.state is not None:
            self.state = assemble(
                *saved.state,
                momentum=session.settings.memory.momentum,
                device=networks.fabric.device,
                hard_samples=session.settings.method.hard_batch_samples,
            )
