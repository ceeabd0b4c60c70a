"""DrMAD in KerasTuner: trials are meta-iterations."""
