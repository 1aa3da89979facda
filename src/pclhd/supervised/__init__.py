"""The one package that may read identities: bounds trained with labels, and the starter weights."""
