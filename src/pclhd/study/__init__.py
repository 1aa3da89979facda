"""Studies: many trainings whose settings Optuna chooses, in one folder or one database."""
