"""Unsupervised visible-infrared person re-identification with hard and dynamic prototypes.

Importing the package imports neither torch nor any other heavy library; take what you need from its modules.
"""

__version__ = "0.1.0"
