"""The training loop: one alternation, the stages around it, and what is written down."""
