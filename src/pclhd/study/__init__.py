"""Studies: many trainings whose settings Optuna chooses, in one folder or one database."""

import logging

# As in `pclhd.report`: without a handler, matplotlib prints a line where no folder for its cache can be written.
logging.getLogger("matplotlib").addHandler(logging.NullHandler())
