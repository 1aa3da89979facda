"""Tables, figures and the one-page report, from saved results."""

import logging

# Where it can keep no cache, matplotlib logs two lines while it is imported, and works all the same.
logging.getLogger("matplotlib").addHandler(logging.NullHandler())
