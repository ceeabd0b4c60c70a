"""QAN: a deep Q-network that schedules trainings, hosted by a KerasTuner oracle."""
