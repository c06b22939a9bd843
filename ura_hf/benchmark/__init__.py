"""Training and evaluation of every category of a dataset: settings, runs, the job that spreads them, tables."""
