"""Training with identities, which no other package uses: the recipes with labels, and the starter weights."""
