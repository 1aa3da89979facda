"""Tables, figures and the one-page report, from saved results."""

import logging

# Where it can keep no cache, matplotlib logs two lines while it is imported; nobody has to act on them.
logging.getLogger("matplotlib").addHandler(logging.NullHandler())
